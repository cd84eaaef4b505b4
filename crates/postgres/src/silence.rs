//! Whether a server says anything.

use tokio::sync::watch;

/// Whether a server says nothing at all, neither an answer nor an error: who follows it knows, and whoever waits for an answer then
/// waits in vain. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Silence(watch::Sender<bool>);

impl Silence {
    /// It says nothing, or it does. Nobody is woken by what is known already: answers come many times a second.
    pub fn set(&self, is_silent: bool) {
        self.0.send_if_modified(|known| std::mem::replace(known, is_silent) != is_silent);
    }

    /// Waits until it says nothing.
    pub async fn begun(&self) {
        let mut receiver = self.0.subscribe();
        // This is one of its senders, so it cannot be over.
        let _ = receiver.wait_for(|is_silent| *is_silent).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Wake, Waker};

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_is_woken_by_silence_and_by_nothing_else() {
        let silence = Silence::default();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        let mut begun = pin!(silence.begun());
        assert!(begun.as_mut().poll(&mut context).is_pending());
        (0..100).for_each(|_| silence.set(false));
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        silence.clone().set(true);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(begun.poll(&mut context).is_ready());
    }
}
