//! How long others are waited for. A deadline by the wall clock also counts the time in which this process had no core, or
//! so much to do that it did not come to read: under load it would take its own delay for another's absence.

use std::{future::Future, pin::pin, time::Duration};

use tokio::time::timeout;

/// A wait is given up after this many steps.
const STEPS: u32 = 5;

/// Waits for `answer`, or gives nothing once `patience` is over. Time counts in five steps, and one that this process slept
/// through, or was kept busy in, counts as one: whatever arrived meanwhile is read before the next.
pub async fn within<T>(patience: Duration, answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = pin!(answer);
    for _ in 0..STEPS {
        if let Ok(answer) = timeout(patience / STEPS, &mut answer).await {
            return Some(answer);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{future::pending, thread};

    use tokio::{sync::oneshot, time};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_process_that_got_no_time_still_reads_what_arrived_meanwhile() {
        let (tells, told) = oneshot::channel();
        tokio::spawn(async {
            time::sleep(PATIENCE / 10).await;
            tells.send(()).unwrap();
        });
        tokio::spawn(async { thread::sleep(PATIENCE * 2) });
        within(PATIENCE, told).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_stays_silent_is_waited_for_no_longer_than_was_said() {
        let began = time::Instant::now();
        assert_eq!(within(PATIENCE, pending::<()>()).await, None);
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
