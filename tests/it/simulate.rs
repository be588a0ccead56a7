//! Simulated worlds under many seeds: which faults happen, how a failure is shrunk, and how it is
//! replayed.

use soloist::testing;

use crate::support::*;

#[test]
fn x() {
    testing::simulate(0..100, |world| async move {
        let lost: Vec<u64> = (0..100).filter(|n| world.fake(*n)).collect();
        let jitter: Vec<u64> = (0..100).map(|n| world.fake_jitter(n)).collect();
        yield_now().await;
        assert!(
            !(lost.contains(&7) && lost.contains(&70) && jitter[3] > 50),
            "x"
        );
    });
}

#[test]
fn y() {
    let t = std::time::Instant::now();
    testing::simulate(0..10000, |_| async move {});
    eprintln!("{:?}", t.elapsed() / 10000);
}
