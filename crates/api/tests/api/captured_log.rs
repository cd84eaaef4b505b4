//! What a test's own thread logs.
//!
//! One subscriber for the whole process, and a place for each thread: whether a line is wanted at all is remembered by the
//! process, so that a subscriber of one thread alone would miss what another thread has come by first.

use std::cell::RefCell;
use std::io;
use std::sync::Once;
use tracing_subscriber::fmt::MakeWriter;

thread_local! {
    /// None: nobody looks.
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Everything that is logged on this thread from its start until it is dropped, at every level.
pub(crate) struct CapturedLog(());

impl CapturedLog {
    pub(crate) fn start() -> Self {
        static SUBSCRIBED: Once = Once::new();
        SUBSCRIBED.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_ansi(false)
                .with_writer(OfThread)
                .finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        LINES.set(Some(Vec::new()));
        Self(())
    }

    pub(crate) fn text(&self) -> String {
        LINES.with_borrow(|lines| String::from_utf8_lossy(lines.as_deref().unwrap_or_default()).into_owned())
    }
}

impl Drop for CapturedLog {
    fn drop(&mut self) {
        LINES.set(None);
    }
}

#[derive(Clone, Copy)]
struct OfThread;

impl io::Write for OfThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for OfThread {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        *self
    }
}
