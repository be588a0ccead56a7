//! Notes about suites and rows, from profiles, system call traces and instruction counts. Written
//! by hand.

/// The reason why a row has not reached its goal.
pub fn of(row: &str) -> &'static str {
    let found = WHY.iter().find(|(name, _)| row.starts_with(name));
    found.map_or("the reason is not known yet.", |(_, why)| why)
}

/// Notes about a suite.
pub fn about(suite: &str) -> &'static str {
    let found = ABOUT.iter().find(|(name, _)| *name == suite);
    found.map_or("", |(_, what)| what)
}

const ABOUT: &[(&str, &str)] = &[
    (
        "tasks",
        "glommio polls a new task inside `spawn`, which is cheap, but changes the order of the \
         tasks. tokio, monoio, compio and glommio create their reactor together with the \
         runtime, so a new runtime includes it there.\n\n",
    ),
    (
        "wakes",
        "In monoio, a task that wakes itself runs next. So each of the 1,000 tasks runs to its \
         end before the next one starts, and the row for 1,000 tasks measures one task. The \
         `yield_now` of tokio polls the system in between.\n\n",
    ),
    (
        "timers",
        "\"100,000 firing\" is 100,000 tasks that sleep and are all due within 100 ms. Its CPU \
         time includes spawning and awaiting them. In glommio the waker of a task can be cloned \
         32,767 times, so one task cannot have 100,000 sleeps.\n\n",
    ),
    (
        "sockets",
        "Messages of 64 bytes. Each read fills a buffer of 64 bytes, so only another read shows \
         whether there is more data. A buffer of 1 KiB is not filled. `limit` is a \
         level-triggered epoll loop that is written only for this benchmark, and `limit-edge` is \
         the same with edge triggering. Requests per second and round trips are measured in real \
         time, with both cores at full load. Instructions are counted by callgrind.\n\n",
    ),
    (
        "mixed",
        "Each client sends 64 bytes, waits for the reply, and sends the next request. (a) The \
         server computes for each reply. (b) One more connection sends blocks of 64 KiB as fast \
         as possible. (c) A task repeatedly computes for 5 ms and yields. (d) 100,000 tasks \
         yield for ever, beside a client and a task that repeatedly sleeps for 1 ms. (e) 10 of \
         1,000 connections send. (f) 20,000 connections per second are opened and reset. (g) \
         Four threads spawn tasks, with up to 1,000 at the same time. \"replies\" is the number \
         of replies that one client received during the measurement. A request that is still \
         open at the end counts as having waited until then, so a server that never replies has \
         a delay, too. In monoio, a task that yields runs next, so the runtime does not poll any \
         socket in (c) and (d).\n\n",
    ),
    (
        "footprint",
        "\"hello\" is a program that listens, accepts, connects, spawns and sleeps. It is built \
         in release mode and stripped, with the default features of each runtime or those that \
         it needs. Builds use all cores: the table has the elapsed time, and the CPU seconds of cargo and \
         the compilers. The memory of an \
         empty runtime is that of the process, including the pages of code that have run. An \
         empty runtime of soloist adds no page, and one of tokio adds four.\n\nIn a fresh clone with \
         a cached registry, on 2026-11-27: `cargo run --release --example fetch` takes 9.9 s (goal: \
         15), and the test command of the README 69 s (goal: 75).\n\n",
    ),
    (
        "scale",
        "Tasks are spawned and awaited, timers are created, polled and dropped, and connections \
         echo 64 bytes. 27,000 connections are three servers of 9,000 at the same time on one \
         core. The rise on the right appears when the memory no longer fits into the processor's \
         caches.\n\n",
    ),
    (
        "worlds",
        "One network in a test: each client sends 64 bytes over TCP to a server of its own, and \
         waits until they are back. The latency is 1 ms (madsim: 1 to 2 ms). \"1,000 hosts\" are \
         500 clients and 500 servers. Time is the CPU time of the thread. turmoil does not jump to \
         the next event: it takes steps of 1 ms, in each of which it goes through all links for \
         each host.\n\n",
    ),
];

const WHY: &[(&str, &str)] = &[
    (
        "block_on of a ready future",
        "if nothing else is ready, the future of `block_on` is polled at once, without the \
         queue. That takes 237 instructions, counted by callgrind, and took 472 at first. The \
         rest enters and leaves the runtime, so that spawned code finds it. Most of the gain had \
         another reason: a value that was passed through three functions was read in pieces of \
         another size than it had been written, which stalls the processor.",
    ),
    (
        "new runtime, block_on, drop",
        "1,640 instructions, counted by callgrind, and 2,370 at first. The executor and the cell \
         of the `block_on` are allocated. The inbox for other threads is reused from an earlier \
         runtime, and is opened and closed. Reusing the other memory as well took 1,139 \
         instructions, but it needed additional invariants, which safe programs violated.",
    ),
    (
        "spawn + await",
        "glommio polls the new task inside `spawn`. If the task completes at once, it is never \
         queued, and no task waits or is woken. soloist never polls a task inside `spawn`. So \
         spawning and awaiting includes a push, a pop, a registered waiter, a wake, and a second \
         poll of the waiting task: 1,000 instructions, counted by callgrind. A \
         sixth of them are `malloc` and `free`. Reusing the memory of the last cell saved 6 ns, \
         but made 1,000,000 tasks a seventh slower, because the allocator then returns memory in \
         another order. So it is not reused.",
    ),
    (
        "100,000 spawned",
        "the memory that does not fit into the caches is the cell of a task, which takes 112 \
         bytes with its allocation, and 8 bytes each in the registry and in the queue. Half of the \
         time depends on the allocator: after the rows above, glibc returns the memory of the \
         100,000 cells to the system after each repetition. In a program that does nothing else, a \
         task takes 47 ns.",
    ),
    (
        "1,000,000 tasks",
        "the memory does not fit into any cache. A third of the time is spent on two cache \
         misses: when the allocator takes a free block, and when a task is first polled. A task \
         takes 128 bytes. (With 168 bytes, as before, it took a quarter longer.) 112 of them are \
         the cell, which includes the name, the place of the spawn, and the waiting task. The \
         task of monoio takes 72. Prefetching the cells of the next tasks saved 3%, and a cell \
         that is smaller by 16 bytes (with the name elsewhere, and panics behind another \
         pointer) saved 4%. Both made other rows slower.",
    ),
    (
        "a wake from another thread",
        "within the spread of the rounds. Nearly all of the time is spent in the kernel, which \
         wakes an idle core of a virtual machine twice. The number of system calls is minimal: \
         four for a round trip, two of them by the other thread. (With a socket these are a \
         write and a wait. The eventfd is never read.) Parking on a futex instead of a condition \
         variable, and skipping the timers, made no measurable difference.",
    ),
    (
        "unfired sleep",
        "soloist has a heap that is ordered by exact deadlines, and removes the entry at once. \
         monoio has a wheel with a resolution of 1 ms. Both read the clock once. The wheel is \
         faster here, but its timers fire later: compare the rows of 100,000 that fire.",
    ),
    (
        "100,000 firing: CPU",
        "the time includes spawning, the two clock readings of each task, and the memory of \
         100,000 tasks. These are the same for all runtimes.",
    ),
    (
        "100,000 firing: late",
        "the rounds differ widely in this row, because any time that other programs use the core \
         within these 100 ms delays all later timers. Apart from that, the delay is the system's \
         timer slack: a waiting thread is woken 50 us late, when about 70 timers are due. Exact \
         wakes (by `prctl` or a timerfd) reduce the median to 18 us, and the 99th percentile to \
         that of smol. But they cost 300 ns of CPU time per timer, so the row above would miss \
         its goal. A heap without unpredictable branches (101 ns per timer instead of 176) \
         shortens the backlog. Waits of more than 50 us end in time, but the waits here are \
         shorter.",
    ),
    (
        "echo, 64 connections, buffer 64 B",
        "each request takes three system calls, and two in the level-triggered limit. A read \
         that fills its buffer is followed by a read that finds nothing, because an \
         edge-triggered socket must be read until it is empty. tokio and monoio do the same. The \
         rest is spent in user space: see the instructions.",
    ),
    (
        "echo, 1,000 connections",
        "with io_uring there is hardly any system call. Edge triggering saved 0.3 us compared \
         with level triggering (buffer of 1 KiB). Three smaller changes saved 0.1 us together: a \
         reference to the task instead of its waker, a slot of 64 bytes instead of 120, and \
         fewer look-ups. With a buffer of 64 B, the read that finds nothing costs 0.2 us. The \
         rest of the difference to the limit is spent in user space: see the instructions.",
    ),
    (
        "echo, 9,000 connections",
        "the limit has a table of sockets and one buffer for all of them. 9,000 tasks with a \
         buffer each need more memory than fits into the caches. All runtimes with such tasks \
         are within a few spreads of each other.",
    ),
    (
        "instructions per echo",
        "1,030 before three attempts. Keeping a reference to the task instead of its waker saves \
         two locked instructions, but at first it saved no others. Separating the usual wait and \
         the usual report from all other cases saved 170. Storing the readiness in one byte, and \
         checking the thread of a task once, saved 20. Separating the poll that waits from the \
         poll that reads saved none. The two polls of a read (one finds bytes, one waits) are a \
         quarter of the rest. The steps from an event to the ready queue and into the task are a \
         third. 130 belong to the body of the benchmark, which passes its buffer on.",
    ),
    (
        "hello: cold build",
        "see the row without default features. The thread pool for host names adds eight crates \
         and 0.8 s.",
    ),
    (
        "hello: incremental build",
        "within the spread of the rounds.",
    ),
    (
        "hello, no default features: cold build",
        "on two cores the build waits for the dependencies. One core compiles rustix, which polling \
         needs, and the other one everything else. So soloist begins after 2.9 s, where tokio begins \
         after 1.2 s. soloist itself takes 3.4 s (tokio 3.8 s), and the program 0.5 s, as with \
         tokio. To reach the goal, soloist would have to be compiled in 1.9 s. What was compiled \
         again for each type of socket and task is compiled once now: 100,000 lines of LLVM's \
         intermediate code instead of 136,000. If reads and writes were compiled once as well, it \
         would be 91,000, but an echo would take a fifth more instructions.",
    ),
    (
        "hello, no default features: stripped size",
        "335 KiB are a `main` that prints a line, which contains std with its backtraces and is \
         the same for all runtimes. The tables for unwinding add 50, because panics of tasks are \
         caught and everything is dropped in order. It was 628 KiB before operations of sockets \
         were compiled once for all types, and before the description of tasks, for the panic of a \
         `block_on` that is stuck, did without maps and sorts of std. The rest is spread over about \
         600 functions, of which the largest has 6 KB.",
    ),
    (
        "bytes per idle connection",
        "535 before. The future of the benchmark and its buffer take 160 of them, and the rest of \
         the task's cell 96. The object that clones of the socket share takes 48. The data for the \
         reactor and other threads takes 64, and so does the slot of the reactor. (It took 112 \
         while it kept a waker for each direction instead of a reference to the task.) To have the \
         first two in one allocation would save 32 bytes, but then a slot could keep a socket open.",
    ),
    (
        "a, 10 clients, 0.3 ms per reply: worst",
        "the longest of 9,000 waits is a moment in which another program has the core. In seven \
         more rounds of soloist and tokio it was 7.1 ms on soloist and 9.6 ms on tokio.",
    ),
    (
        "echo, 64 connections, buffer 1 KiB",
        "within the spread of the rounds. It makes as many system calls as the limit (see that \
         row).",
    ),
    (
        "connect, request, close",
        "within the spread of the rounds.",
    ),
];
