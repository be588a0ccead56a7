mod rt {
    type Driver = monoio::IoUringDriver;

    include!("../rt.rs");
}

#[path = "../../../../bodies"]
mod bodies {
    pub mod measure;
    pub mod tasks;
    pub mod timers;
    pub mod wakes;
}

fn main() {
    let (suite, _) = bodies::measure::arguments();
    match &*suite {
        "tasks" => bodies::tasks::main(),
        "memory" => bodies::tasks::memory(),
        "wakes" => bodies::wakes::main(),
        "timers" => bodies::timers::main(),
        "timers-among" => bodies::timers::among_others(),
        "timers-firing" => bodies::timers::firing(),
        _ => panic!("no suite {suite}"),
    }
}
