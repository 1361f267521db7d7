//! Panics that must not end the process: those of a client library over an answer that it did not expect. Such an answer is
//! an error of the connection, whoever made it. Everything else that panics ends the process, see `lifecycle`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use tokio::task::Id;

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
    /// Where the last contained panic was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Tasks that a library has started by itself and in which it may panic: the latest. None of them lives for long.
static TASKS: Mutex<VecDeque<Id>> = Mutex::new(VecDeque::new());
const TASKS_MAX: usize = 1_000;

/// Does the work; answers what it said if it panicked. It may leave nothing behind that others go on with.
///
/// # Errors
///
/// If it panicked.
pub async fn contained<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = pin!(work);
    poll_fn(|context| {
        let outer = CONTAINED.replace(true);
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        CONTAINED.set(outer);
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(said(&*panic))),
        }
    })
    .await
}

/// From here on the current task is one that a library has started by itself, to clean up a connection: nobody waits for it.
pub(crate) fn contain_this_task() {
    let Some(task) = tokio::task::try_id() else { return };
    let mut tasks = TASKS.lock().unwrap_or_else(PoisonError::into_inner);
    tasks.push_back(task);
    if tasks.len() > TASKS_MAX {
        tasks.pop_front();
    }
}

/// For the hook of panics: whether this one does not end the process.
pub fn contains(panic: &PanicHookInfo<'_>) -> bool {
    let is_contained = is_contained();
    if let (true, Some(place)) = (is_contained, panic.location()) {
        PLACE.set(place.to_string());
    }
    is_contained
}

fn is_contained() -> bool {
    CONTAINED.get()
        || tokio::task::try_id().is_some_and(|task| {
            // Not waited for: whoever panics may hold it.
            TASKS.try_lock().is_ok_and(|tasks| tasks.contains(&task))
        })
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why");
    match PLACE.take() {
        place if place.is_empty() => text.to_owned(),
        place => format!("{text}, at {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_of_the_work_alone() {
        let work = async {
            tokio::task::yield_now().await;
            assert!(is_contained());
            panic!("out of bounds: {}", 7)
        };
        assert_eq!(contained::<()>(work).await, Err("out of bounds: 7".to_owned()));
        assert_eq!(contained(async { 7 }).await, Ok(7));
        assert!(!is_contained(), "only while it is at work");
    }

    #[tokio::test]
    async fn a_task_of_a_library_is_known_by_its_number() {
        let of_library = tokio::spawn(async {
            contain_this_task();
            is_contained()
        });
        assert!(of_library.await.expect("it ends"));
        assert!(!tokio::spawn(async { is_contained() }).await.expect("it ends"));
    }
}
