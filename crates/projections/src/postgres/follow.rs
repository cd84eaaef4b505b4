//! Up to where the read models are, whoever projects them: looked at often while somebody waits for one, and now and then otherwise.
//!
//! Deliberately absent: NOTIFY. It wakes every process for each step of each projector, and hardly ever does anybody wait.

use futures::FutureExt;
use kite_event_store::{Position, describe};
use kite_postgres::{Connector, Silence, is_silence};
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_postgres::Client;

use super::generation::schema_of;
use crate::register::Registered;

/// How often the positions are looked at while nobody waits for them.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// And while somebody does; looks are never closer.
const LOOKS_APART: Duration = Duration::from_millis(10);
/// Before the server is tried again; and what a look may take.
const PAUSE: Duration = Duration::from_millis(200);
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server that was reached may take until it can be asked.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// What is known of a read model.
pub(super) struct Followed {
    pub(super) model: &'static str,
    /// Of the tables that this program reads.
    schema_version: i64,
    generation: AtomicI64,
    position: watch::Sender<Position>,
}

impl Followed {
    pub(super) fn new(model: &dyn Registered, generation: i64) -> Self {
        Self {
            model: model.name(),
            schema_version: model.schema_version(),
            generation: AtomicI64::new(generation),
            position: watch::Sender::new(0),
        }
    }

    /// Whether anybody waits for it to come further.
    fn is_waited_for(&self) -> bool {
        self.position.receiver_count() > 0
    }

    /// The schema that is shown.
    pub(super) fn schema(&self) -> String {
        schema_of(self.model, self.generation.load(Ordering::Acquire))
    }

    pub(super) fn positions(&self) -> watch::Sender<Position> {
        self.position.clone()
    }

    /// What is there after nothing was known for a while: a server may have lost its last moments.
    fn tell_anew(&self, generation: i64, position: Position) {
        self.generation.store(generation, Ordering::Release);
        self.position.send_if_modified(|known| std::mem::replace(known, position) != position);
    }

    /// A generation is shown from now on, up to this position at least.
    pub(super) fn tell(&self, generation: i64, position: Position) {
        // Whoever waits for the position is to find it in the tables.
        self.generation.fetch_max(generation, Ordering::AcqRel);
        self.position.send_if_modified(|known| {
            let is_news = *known < position;
            *known = position.max(*known);
            is_news
        });
    }
}

/// Why nothing is heard any more.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the server cannot be asked")]
    Server(#[from] tokio_postgres::Error),
    #[error("the connection has ended")]
    Ended,
    #[error("the server does not answer")]
    Silent,
}

impl Lost {
    /// Whether the server says nothing at all.
    fn is_silence(&self) -> bool {
        matches!(self, Self::Silent) || is_silence(self)
    }
}

/// An answer in time.
async fn within<T>(
    time: Duration,
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Lost> {
    Ok(timeout(time, asked).await.map_err(|_| Lost::Silent)??)
}

/// Follows them for as long as it is let; whoever begins to wait for one of them says that a look is due. Tells whether the
/// server says nothing at all.
#[expect(clippy::disallowed_methods, reason = "this is the loop that waits")]
pub(super) async fn follow(
    connector: Connector,
    followed: Vec<Arc<Followed>>,
    is_due: Arc<Notify>,
    silence: Silence,
) {
    let mut was_lost = false;
    loop {
        let Err(lost) = follow_once(&connector, &followed, &is_due, &silence, &mut was_lost).await;
        silence.set(lost.is_silence());
        if !std::mem::replace(&mut was_lost, true) {
            let error = describe(&lost);
            tracing::warn!(error, "where the read models are is not known at the moment");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Over one connection.
async fn follow_once(
    connector: &Connector,
    followed: &[Arc<Followed>],
    is_due: &Notify,
    silence: &Silence,
    was_lost: &mut bool,
) -> Result<Infallible, Lost> {
    let (client, mut connection) = within(CONNECT_WITHIN, connector.connect()).await?;
    let driving = async {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            message?;
        }
        Err(Lost::Ended)
    };
    let looking = async {
        let mut tell: fn(&Followed, i64, Position) = Followed::tell_anew;
        let mut pace = pace();
        loop {
            within(LOOK_TIMEOUT, look_and(&client, followed, tell)).await?;
            tell = Followed::tell;
            silence.set(false);
            if std::mem::take(was_lost) {
                tracing::info!("where the read models are is known again");
            }
            look_is_due(followed, is_due, &mut pace).await;
        }
    };
    tokio::select! {
        ended = driving => ended,
        ended = looking => ended,
    }
}

/// Of the looks.
fn pace() -> Interval {
    let mut pace = interval(LOOKS_APART);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Waits until it is time for the next look, or somebody begins to wait for a position.
async fn look_is_due(followed: &[Arc<Followed>], is_due: &Notify, pace: &mut Interval) {
    if !followed.iter().any(|followed| followed.is_waited_for()) {
        let _ = timeout(LOOK_EVERY, is_due.notified()).await;
    }
    pace.tick().await;
    // Whoever has begun to wait until now is helped by the look that comes.
    let _ = is_due.notified().now_or_never();
}

/// Looks which generations are shown, and up to where they are.
pub(super) async fn look(client: &Client, followed: &[Arc<Followed>]) -> Result<(), tokio_postgres::Error> {
    look_and(client, followed, Followed::tell).await
}

async fn look_and(
    client: &Client,
    followed: &[Arc<Followed>],
    tell: fn(&Followed, i64, Position),
) -> Result<(), tokio_postgres::Error> {
    let sql = "SELECT name, generation, schema_version
               FROM kite_read_models.models JOIN kite_read_models.generations USING (generation) WHERE model = name";
    let rows = client.query_typed(sql, &[]).await?;
    let mut questions = Vec::new();
    let mut asked = Vec::new();
    for row in &rows {
        let (model, generation): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
        let schema_version: i64 = row.try_get(2)?;
        // Tables of another version are not for this program: it stays with those that it knows, until they are gone.
        let is_it =
            |followed: &&Arc<Followed>| followed.model == model && followed.schema_version == schema_version;
        if let Some(followed) = followed.iter().find(is_it) {
            let schema = schema_of(followed.model, generation);
            questions.push(format!("(SELECT position FROM {schema}.checkpoint WHERE id = 1)"));
            asked.push((followed, generation));
        }
    }
    if asked.is_empty() {
        return Ok(());
    }
    let row = client.query_typed(&format!("SELECT {}", questions.join(", ")), &[]).await?;
    let Some(row) = row.first() else { return Ok(()) };
    for (place, (followed, generation)) in asked.into_iter().enumerate() {
        let position: Option<i64> = row.try_get(place)?;
        tell(followed, generation, position.unwrap_or(0).unsigned_abs());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::Of;
    use crate::work::WorkModel;
    use tokio::time::{Instant, sleep_until};

    /// When looks are due in some time, if somebody waits during `waits`.
    async fn looks(waits: std::ops::Range<Duration>, end: Duration) -> Vec<Duration> {
        let followed = [Arc::new(Followed::new(&Of::<WorkModel>::NEW, 1))];
        let (is_due, mut pace, begun) = (Notify::new(), pace(), Instant::now());
        let waiting = async {
            sleep_until(begun + waits.start).await;
            let _waits = followed[0].position.subscribe();
            is_due.notify_one();
            sleep_until(begun + waits.end).await;
        };
        let mut looks = Vec::new();
        let looking = async {
            loop {
                look_is_due(&followed, &is_due, &mut pace).await;
                looks.push(begun.elapsed());
            }
        };
        let _ = tokio::join!(waiting, timeout(end, looking));
        looks
    }

    #[tokio::test(start_paused = true)]
    async fn looks_are_close_while_somebody_waits_and_few_otherwise() {
        let ms = Duration::from_millis;
        let looks = looks(ms(600)..ms(800), ms(2_000)).await;
        let during =
            |range: std::ops::Range<Duration>| looks.iter().filter(|look| range.contains(*look)).count();
        assert_eq!(during(ms(0)..ms(600)), 2, "{looks:?}");
        assert!(looks.iter().any(|look| (ms(600)..ms(600) + LOOKS_APART * 2).contains(look)), "{looks:?}");
        assert!((18..=21).contains(&during(ms(600)..ms(800))), "{looks:?}");
        assert!((4..=6).contains(&during(ms(800)..ms(2_000))), "{looks:?}");
    }
}
