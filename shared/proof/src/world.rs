//! What both worlds can do: the one of real servers, and the simulated one.

use crate::fault::Fault;
use crate::plan::Plan;
use crate::step::PlannedFault;

/// Why a fault was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotDone<E> {
    /// The moment that it was made for did not come, or this world cannot do such a thing; and why.
    Missed(E),
    /// It went wrong.
    Failed(E),
}

/// A running system that can be hurt. Its faults take effect between two steps of its own.
#[expect(async_fn_in_trait, reason = "both worlds are carried out by one thread")]
pub trait World {
    /// How to undo a fault, or a part of it.
    type Undo;
    /// What can go wrong.
    type Error;

    /// Milliseconds since the load began.
    fn now_ms(&self) -> u64;

    /// Lets the system run until then.
    async fn run_until(&mut self, ms: u64);

    /// Does the fault of a step; answers how it is undone, and how long from now.
    async fn inject(&mut self, step: &PlannedFault) -> Result<Vec<(u64, Self::Undo)>, NotDone<Self::Error>>;

    /// Ends a fault, or a part of it.
    async fn undo(&mut self, undo: Self::Undo) -> Result<(), Self::Error>;

    /// Whether the first one must be over before the second one begins.
    fn take_turns(&self, first: &Fault, second: &Fault) -> bool;
}

/// How it went.
#[derive(Debug)]
pub struct CarriedOut<E> {
    /// Faults that found no occasion.
    pub missed: Vec<(Fault, E)>,
    /// Whether all others were done and undone.
    pub result: Result<(), E>,
}

/// A fault that lasts.
struct Wound<U> {
    due_ms: u64,
    fault: Fault,
    undo: U,
}

/// Injects and heals, in the order of the plan.
pub async fn carry_out<W: World>(world: &mut W, plan: &Plan) -> CarriedOut<W::Error> {
    let mut wounds: Vec<Wound<W::Undo>> = Vec::new();
    let mut missed = Vec::new();
    let mut result = Ok(());
    let mut previous_ms = world.now_ms();
    for step in &plan.steps {
        result = heal(world, &mut wounds, Some(previous_ms + step.after_ms), Some(&step.fault)).await;
        if result.is_err() {
            break;
        }
        previous_ms = world.now_ms();
        match world.inject(step).await {
            Ok(undos) => {
                let now_ms = world.now_ms();
                let wound = |(ms, undo)| Wound { due_ms: now_ms + ms, fault: step.fault, undo };
                wounds.extend(undos.into_iter().map(wound));
            }
            Err(NotDone::Missed(why)) => missed.push((step.fault, why)),
            Err(NotDone::Failed(why)) => {
                result = Err(why);
                break;
            }
        }
    }
    // Always all of them: a wound that stays would hide what else is wrong.
    let healed = heal(world, &mut wounds, None, None).await;
    CarriedOut { missed, result: result.and(healed) }
}

/// Runs until a moment and until every wound is healed that must be before `next`; heals each when it is due. Without a
/// moment, all of them.
async fn heal<W: World>(
    world: &mut W,
    wounds: &mut Vec<Wound<W::Undo>>,
    until_ms: Option<u64>,
    next: Option<&Fault>,
) -> Result<(), W::Error> {
    let mut result = Ok(());
    loop {
        wounds.sort_by_key(|wound| wound.due_ms);
        let must = |wound: &Wound<W::Undo>| next.is_none_or(|next| world.take_turns(&wound.fault, next));
        let is_needed = wounds.iter().any(must);
        let is_due = |wound: &Wound<W::Undo>| is_needed || until_ms.is_some_and(|until| wound.due_ms <= until);
        if !wounds.first().is_some_and(is_due) {
            break;
        }
        let wound = wounds.remove(0);
        world.run_until(wound.due_ms).await;
        result = result.and(world.undo(wound.undo).await);
    }
    if let Some(until) = until_ms {
        world.run_until(until).await;
    }
    result
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::values::{Restart, Who};

    /// Writes down what is done, on a clock of its own. Kills of the same kind take turns; nobody can FLUSHALL.
    #[derive(Default)]
    struct Paper {
        now_ms: u64,
        lines: Vec<String>,
    }

    impl World for Paper {
        type Undo = String;
        type Error = String;

        fn now_ms(&self) -> u64 {
            self.now_ms
        }

        async fn run_until(&mut self, ms: u64) {
            self.now_ms = self.now_ms.max(ms);
        }

        async fn inject(&mut self, step: &PlannedFault) -> Result<Vec<(u64, String)>, NotDone<String>> {
            if step.fault == (Fault::FlushAll {}) {
                return Err(NotDone::Missed("no Redis".into()));
            }
            self.lines.push(format!("{} {}", self.now_ms, step.fault));
            Ok(vec![(step.hold_ms, format!("end of {}", step.fault))])
        }

        async fn undo(&mut self, undo: String) -> Result<(), String> {
            self.lines.push(format!("{} {undo}", self.now_ms));
            Ok(())
        }

        fn take_turns(&self, first: &Fault, second: &Fault) -> bool {
            first == second
        }
    }

    #[test]
    fn faults_last_beside_each_other_and_take_turns_where_they_must() {
        let kill = Fault::Kill { who: Who::Flusher(0) };
        let restart = Fault::RedisRestart { data: Restart::Whole };
        let step = |after_ms, hold_ms, fault| PlannedFault { after_ms, hold_ms, fault };
        let steps =
            vec![step(100, 500, kill), step(50, 100, restart), step(50, 100, Fault::FlushAll {}), step(50, 10, kill)];
        let plan = Plan { steps, ..Plan::example() };
        let mut paper = Paper::default();
        let carried = {
            let work = pin!(carry_out(&mut paper, &plan));
            let Poll::Ready(carried) = work.poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("paper never waits")
            };
            carried
        };
        assert_eq!(carried.result, Ok(()));
        assert_eq!(carried.missed, [(Fault::FlushAll {}, "no Redis".to_owned())]);
        let expected = [
            "100 kill who=flusher:0",
            "150 redis-restart data=whole",
            "250 end of redis-restart data=whole",
            "600 end of kill who=flusher:0",
            "600 kill who=flusher:0",
            "610 end of kill who=flusher:0",
        ];
        assert_eq!(paper.lines, expected);
    }
}
