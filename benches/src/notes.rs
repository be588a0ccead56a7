//! What was found out about rows by looking closer: by profiles, system call traces and
//! counts. Written by hand.

/// Why a row has not reached its goal.
pub fn of(row: &str) -> &'static str {
    let found = WHY.iter().find(|(name, _)| row.starts_with(name));
    found.map_or("the reason is not known yet.", |(_, why)| why)
}

/// What there is to know about a suite.
pub fn about(suite: &str) -> &'static str {
    let found = ABOUT.iter().find(|(name, _)| *name == suite);
    found.map_or("", |(_, what)| what)
}

const ABOUT: &[(&str, &str)] = &[
    (
        "tasks",
        "glommio polls a new task inside of `spawn`, which is cheap, and another order. A new \
         runtime is with its reactor where that is made at once: tokio, monoio, compio, glommio.\n\n",
    ),
    (
        "wakes",
        "In monoio a task that wakes itself is the next to run, so a thousand of them run one \
         after the other to their ends: its row for 1,000 tasks is really that of one. tokio's \
         own `yield_now` visits the system in between.\n\n",
    ),
    (
        "timers",
        "\"100,000 firing\" is 100,000 tasks that sleep, all due within 100 ms; its CPU time \
         has the spawning and the awaiting in it. In glommio a task's waker can be cloned \
         32,767 times, so that one task cannot have 100,000 sleeps.\n\n",
    ),
    (
        "sockets",
        "Messages of 64 bytes. A buffer of 64 bytes is filled by each read, so that only \
         another read shows whether there is more; one of 1 KiB is not. `limit` is an epoll \
         loop written for nothing but this, which is level-triggered; `limit-edge` is \
         edge-triggered. Requests per second and round trips are time on \
         the clock, at full load of both cores. Instructions are counted by callgrind.\n\n",
    ),
    (
        "mixed",
        "Each client sends 64 bytes, waits for the reply, and sends the next. (a) The server \
         computes for each reply. (b) One more connection carries blocks of 64 KiB as fast as it \
         can. (c) A task computes for 5 ms, yields, and so on. (d) 100,000 tasks yield for ever, \
         beside a client and a task that sleeps for 1 ms again and again. (e) Of 1,000 connections 10 send. (f) 20,000 \
         connections per second are made and reset. (g) Four threads spawn tasks, of which up to \
         1,000 are in flight. \"replies\" is the number that one client got in the time \
         measured. A request that is open at the end has waited until then, so that a server \
         that never replies has a wait, too. In monoio a task that yields is the next to run: \
         (c) and (d) never let it see a socket.\n\n",
    ),
    (
        "footprint",
        "\"hello\" is a program that listens, accepts, connects, spawns and sleeps, in release \
         mode with its symbols stripped, and with the default features of each runtime or what \
         it needs. Build times are CPU seconds of cargo and its compilers. The memory of an empty \
         runtime is that of the process, with the pages of its program that it has run; of its own \
         soloist takes no new page, and tokio four.\n\n",
    ),
    (
        "scale",
        "Tasks are spawned and awaited; timers are made, polled and dropped; connections \
         echo 64 bytes. 27,000 connections are three servers of 9,000 at once on one core. The \
         rise on the right is memory that no longer fits the processor's caches.\n\n",
    ),
    (
        "worlds",
        "One network in a test: each client sends 64 bytes over TCP to a server of its own, and \
         waits until they are back. The latency is 1 ms (madsim: 1 to 2 ms). \"1,000 hosts\" are \
         500 clients and 500 servers. Time is the CPU time of the thread. turmoil does not jump to \
         the next event: it takes steps of 1 ms, in each of which it looks at each pair of hosts.\n\n",
    ),
];

const WHY: &[(&str, &str)] = &[
    (
        "block_on of a ready future",
        "where nothing else is ready, main is polled at once, without the queue: 254 \
         instructions by callgrind, of 472 at first. What is left is to enter the runtime and \
         to leave it, so that what it runs finds it. The largest part was something else: \
         what was handed on through three functions was read in other pieces than it had been \
         written in, for which the processor waits.",
    ),
    (
        "new runtime, block_on, drop",
        "1,476 instructions by callgrind, of 2,370 at first: the executor and the cell of main \
         are allocated, and the inbox for other threads, which earlier runtimes have left, is \
         opened and closed. To keep the rest for the next runtime, too, made it 1,139, and needed \
         invariants of its own that safe programs broke.",
    ),
    (
        "spawn + await",
        "glommio polls the new task inside of `spawn`: when it is ready at once, it is never \
         queued, nobody waits and nobody is woken. Here a task never runs inside of `spawn`, \
         which takes a push, a pop, a registered joiner, a wake and a second poll of the one \
         who awaits: 910 instructions by callgrind, of 1,054 before. A sixth of them are \
         `malloc` and `free`. To keep the memory of the last cell for the next one made it 6 \
         ns less, but 1,000,000 tasks took a seventh longer, so that is not kept: the \
         allocator hands its memory out in another order then.",
    ),
    (
        "100,000 spawned",
        "what there is beyond the caches is a task's cell, with its allocation 112 bytes, and \
         8 bytes each in the registry and in the queue: 128 of the 168 that it was.",
    ),
    (
        "1,000,000 tasks",
        "memory that no cache holds: a third of the time are two misses, where the allocator \
         takes a free piece, and where a task is first polled. A task is 128 bytes (168 \
         before, which took a quarter longer), 112 of them its cell, which knows its name, \
         where it was spawned and who awaits it; monoio's is 72. To have the processor fetch \
         the cells of the next tasks early took off 3%, and 16 bytes less in each cell (its \
         name elsewhere, a panic behind one more pointer) 4%: both cost more elsewhere.",
    ),
    (
        "a wake from another thread",
        "within the spread of the rounds. Nearly all of it is the kernel, which wakes an idle core \
         of a virtual machine twice. The system calls are as few as can be: four for there and \
         back, of which two are the other thread's. (With a socket it is a write and a wait; \
         the eventfd is never read.) To park on the thread's own token and not on a condition \
         variable, or to pass the timers by, changed nothing that can be measured.",
    ),
    (
        "unfired sleep",
        "a heap ordered by exact deadlines, of which the entry is removed at once, against \
         monoio's wheel of milliseconds. One look at the clock is in both. What the wheel saves \
         here, it pays in lateness: compare the rows of 100,000 that fire.",
    ),
    (
        "100,000 firing: CPU",
        "the spawning, the two looks at the clock of each body and the memory of 100,000 tasks \
         are in it, and are the same for all.",
    ),
    (
        "100,000 firing: late",
        "the rounds are far apart in this row: what other programs take of the core in these \
         100 ms is late for all that comes after. Without that, it is the system's timer slack: \
         a thread that waits is woken 50 us late, with some 70 timers due at once. To be woken \
         exactly (by `prctl`, or a timerfd) brings the median to 18 us and p99 to smol's, for 300 ns \
         more of CPU time per timer, and the row above would be missed. A heap without \
         unpredictable branches, 101 ns per timer instead of 176, shortens what has piled up; \
         waits of more than 50 us end on time now, but these are shorter.",
    ),
    (
        "echo, 64 connections, buffer 64 B",
        "three system calls for each request, where the level-triggered limit makes two: a read \
         that fills its buffer is followed by one that finds nothing. An edge-triggered socket \
         must be read until then; tokio and monoio do the same. What is left is user space: see \
         the instructions.",
    ),
    (
        "echo, 1,000 connections",
        "with io_uring there is hardly a system call at all. Edge-triggered sockets made it 0.3 us \
         less than level-triggered ones (buffer of 1 KiB), and a reference to the task in place \
         of its waker, a slot of 64 bytes in place of 120 and fewer look-ups 0.1. With a buffer of \
         64 B the read that finds nothing costs 0.2. What is left to the limit is user space: see \
         the instructions.",
    ),
    (
        "echo, 9,000 connections",
        "the limit has a table of sockets and one buffer for all; 9,000 tasks with a buffer each \
         are more memory than the caches have. All of this size are within a few spreads of \
         each other.",
    ),
    (
        "instructions per echo",
        "1,030 before three attempts. To keep a reference to the task and not its waker saves two \
         locked instructions, and at first none else; to have in the way of a usual wait and of a \
         usual report nothing but what they need took off 170; one byte for what the reads tell, \
         and one look at whose the task is, 20. The poll that waits apart from the one that reads: \
         nothing. Of what is left, the two polls of a read (the one \
         that finds bytes, the one that waits) are a quarter, the way from an event to an entry in \
         the ready queue and from there into the task are a third, and 130 are the body's own, \
         which hands its buffer on.",
    ),
    (
        "hello: cold build",
        "with a timer around each compiler, the dependencies alone are 12 s, which is more than \
         the goal: rustix 4.4 (with five features that polling asks for), libc, socket2 and \
         futures-lite 0.8 each. No feature of theirs is on that polling or blocking does not ask \
         for, and without default features it is all of 1.6 s less. soloist itself is 7.2, as \
         tokio, and the program 1.0 (tokio's: 1.2). It was 9.4 and 1.5: the network in memory for \
         tests is compiled only there now (1.4 less), what describes tasks does without std's maps \
         and sorts (1.0), and what is rare in an `async fn` is boxed, which moves 0.5 from each \
         build of a program to the one of the crate.",
    ),
    (
        "hello: stripped size",
        "335 KiB are a `main` that prints a line: std, with its backtraces, is the same for all. 35 \
         are the default feature `blocking`, the pool of threads for host names, and 60 the tables \
         for unwinding, since panics of tasks are caught and all is dropped in order. The largest \
         part that could go is gone: to say of which tasks `block_on` is stuck for certain took 71 \
         KB of code, most of it B-trees, a merge sort and the printing of floating point, and takes \
         25 (52 KiB less of the file). Code for a virtual clock is there only where one is set, and \
         the lists of connecting are simpler (12 less). To compile once what sockets of all types \
         have in common gave nothing here. What is left is spread over some 650 functions, of \
         which the largest has 4 KB.",
    ),
    (
        "bytes per idle connection",
        "560 before. The source is 192 of them: the object that its clones share 48, what the \
         reactor and other threads must know of it 80 (96 before: its key was there twice), its \
         slot 64 (120 before: a waker for each direction, and names for waiters that hardly anybody has). \
         The rest is the task's cell with its future, and a buffer of 16 bytes, for which the \
         allocator takes 32.",
    ),
    (
        "echo, 64 connections, buffer 1 KiB",
        "within the spread of the rounds: as many system calls as the limit (see that row).",
    ),
    (
        "connect, request, close",
        "within the spread of the rounds.",
    ),
];
