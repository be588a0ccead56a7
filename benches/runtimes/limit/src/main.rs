//! The level-triggered one.

const EDGE: bool = false;

mod limit;

mod rt {
    #[derive(Clone, Copy)]
    pub struct Ctx;
}

#[allow(dead_code)] // What belongs to tasks.
#[path = "../../../bodies"]
mod bodies {
    pub mod measure;
    pub mod place;
}

fn main() {
    limit::main();
}
