mod rt {
    type Driver = monoio::LegacyDriver;
    const EPOLL: bool = true;

    include!("rt.rs");
}

#[path = "../../../bodies"]
mod bodies {
    pub mod footprint;
    pub mod measure;
    pub mod mixed;
    pub mod place;
    pub mod scale;
    pub mod sockets;
    pub mod tasks;
    pub mod timers;
    pub mod wakes;
}

fn main() {
    let (suite, arguments) = bodies::measure::arguments();
    match &*suite {
        "tasks" => bodies::tasks::main(),
        "memory" => bodies::tasks::memory(),
        "wakes" => bodies::wakes::main(),
        "timers" => bodies::timers::main(),
        "timers-among" => bodies::timers::among_others(),
        "timers-firing" => bodies::timers::firing(),
        "echo" => bodies::sockets::echo(&arguments),
        "fetch" => bodies::sockets::fetch(&arguments),
        "empty" => bodies::footprint::empty(),
        "idle" => bodies::footprint::idle(&arguments),
        "scale-tasks" => bodies::scale::of_tasks(),
        "mixed" => bodies::mixed::main(&arguments),
        "scale-timers" => bodies::scale::of_timers(),
        _ => panic!("no suite {suite}"),
    }
}
