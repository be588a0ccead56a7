//! Stand-in.
use super::faults::Faults;
use super::world::World;
use std::future::Future;
use std::sync::Arc;

use crate::runtime::Schedule;

/// Stand-in.
#[track_caller]
pub fn simulate<F, Fut>(seeds: impl IntoIterator<Item = u64>, mut test: F)
where
    F: FnMut(World) -> Fut,
    Fut: Future,
    Fut::Output: super::Outcome,
{
    use super::Outcome;
    for seed in seeds {
        let runtime = super::builder().schedule(Schedule::Shuffled(seed)).build();
        let failure = runtime.block_on(async {
            let world = World::new(seed, Arc::new(Faults::new(seed)), Arc::default());
            test(world).await.failure()
        });
        if let Some(failure) = failure {
            panic!("seed {seed}: {failure}");
        }
    }
}
