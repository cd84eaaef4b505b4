//! The read models over a log in memory: in files of a temporary directory, or, with `TEST_READ_MODELS=postgres`, in a
//! database of their own on the server that `cargo xtask test` starts.

mod address_book;
mod billing;
mod counting;
mod delivery;
mod directory;
mod faults;
mod histories;
mod parking;
mod postgres;
mod projecting;
mod registering;
mod replaying;
mod routing;
mod searching;
mod tables;
mod views;
mod work;

use chrono::{DateTime, TimeDelta, Utc};
use kite_domain::event::Event;
use kite_domain::ids::{LotId, SendingId};
use kite_domain::lot::{LotAccepted, LotPersonal, Recipient, RouteSet, TypeGroup};
use kite_domain::policy::FailoverTerms;
use kite_domain::relay::BillingMoment;
use kite_domain::sending::{MessageClass, SendingAccepted, SendingContent};
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::MessageType;
use kite_event_store::{
    Batch, BatchMode, EventStore, Expected, MemoryEventStore, Metadata, NewEvent, Position, StreamAppend,
};
use kite_postgres::{Connector, Server};
use kite_testkit::postgres::Database;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::database::{self, Access};
use crate::postgres::{Postgres, PostgresOptions, Showing};
use crate::read_model::ReadModel;
use crate::register::Of;
use crate::storage::Writer;
use crate::{OpenError, ProjectError, Projected, ReadModels, Runner, Storage};

/// A log, a data directory, and the projectors at work on it.
pub(crate) struct Bench {
    pub(crate) store: Arc<MemoryEventStore>,
    pub(crate) models: ReadModels,
    pub(crate) directory: TempDir,
    /// With the URL at which it is reached. None: they are in files.
    database: Option<(Database, String)>,
    runners: Vec<Box<dyn Runner>>,
    appended: u128,
}

/// The read models in a database, made from the one log that there is.
fn in_database(url: &str, scratch_dir: &Path) -> Result<Storage, OpenError> {
    let options = PostgresOptions {
        server: Server { url: url.to_owned(), tls: None },
        connections_max: 4,
        log_id: Uuid::from_u128(1),
        scratch_dir: scratch_dir.to_owned(),
    };
    run(Postgres::open(options)).map(Storage::from)
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A moment, in milliseconds after a fixed one.
pub(crate) fn at(milliseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_760_000_400_000 + milliseconds).unwrap()
}

pub(crate) fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

pub(crate) fn relay(name: &str) -> RelayId {
    RelayId::parse(name).unwrap()
}

pub(crate) fn sending_id(number: u128) -> SendingId {
    SendingId(Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0000 + number))
}

pub(crate) fn seqs(numbers: impl IntoIterator<Item = u32>) -> SeqSet {
    numbers.into_iter().collect()
}

impl Bench {
    /// In the engine that is tested.
    pub(crate) fn new() -> Self {
        match std::env::var("TEST_READ_MODELS").as_deref() {
            Ok("postgres") => Self::in_postgres(run(Database::make())),
            Ok(other) => panic!("TEST_READ_MODELS={other}: what is that?"),
            Err(_) => Self::on_files(),
        }
    }

    /// For what is true of files only.
    pub(crate) fn on_files() -> Self {
        Self::on(TempDir::new().unwrap())
    }

    /// On the files of this directory.
    pub(crate) fn on(directory: TempDir) -> Self {
        let models = ReadModels::open(directory.path()).unwrap();
        Self::over(models, directory, None)
    }

    /// In a database of their own.
    pub(crate) fn in_postgres(database: Database) -> Self {
        let url = database.url();
        Self::in_postgres_at(database, url)
    }

    /// The same, reached at another URL.
    pub(crate) fn in_postgres_at(database: Database, url: String) -> Self {
        let directory = TempDir::new().unwrap();
        let server = Server { url: database.url(), tls: None };
        run(async {
            crate::postgres::SCHEMA.migrate(&server, &[]).await.unwrap();
            let make = async |client: &mut Client| crate::postgres::make_first(client, &[], &[]).await;
            Connector::new(&server, "test").unwrap().once(make).await.unwrap();
        });
        let models = ReadModels::open(in_database(&url, directory.path()).unwrap()).unwrap();
        Self::over(models, directory, Some((database, url)))
    }

    fn over(models: ReadModels, directory: TempDir, database: Option<(Database, String)>) -> Self {
        let store = Arc::new(MemoryEventStore::new());
        let runners = models.projectors(store.clone()).unwrap();
        Self { store, models, directory, database, runners, appended: 0 }
    }

    /// Where they are kept, for somebody else.
    pub(crate) fn storage(&self) -> Storage {
        self.try_storage().unwrap()
    }

    fn try_storage(&self) -> Result<Storage, OpenError> {
        match &self.database {
            Some((_, url)) => in_database(url, self.directory.path()),
            None => Ok(Storage::from(self.directory.path())),
        }
    }

    /// The database that they are in.
    pub(crate) fn database(&self) -> &Database {
        &self.database.as_ref().expect("they are in PostgreSQL").0
    }

    /// Whether they are in files.
    pub(crate) fn has_files(&self) -> bool {
        self.database.is_none()
    }

    /// What writes a model, without a projector.
    pub(crate) fn writer<M: ReadModel>(&self) -> Writer {
        match self.storage() {
            Storage::Files(directory) => {
                let path = database::file::<M>(&directory);
                Writer::Sqlite(database::open_writer::<M>(&path, Access::Shared).unwrap())
            }
            Storage::Postgres(storage) => {
                Writer::Postgres(crate::postgres::Writer::new(&storage, &Of::<M>::NEW, Showing::Shown))
            }
        }
    }

    /// The schema of a model in PostgreSQL.
    pub(crate) fn schema(&self, model: &str) -> String {
        let Storage::Postgres(postgres) = self.storage() else { panic!("there is none in files") };
        postgres.schema(model)
    }

    /// Does something with the tables of a model behind its back. They are called as in PostgreSQL's schema of the model.
    pub(crate) fn execute(&self, model: &str, sql: &str) {
        match &self.database {
            Some((database, _)) => {
                let sql = format!("SET search_path = {}; {sql}", self.schema(model));
                run(database.execute(&sql));
            }
            None => {
                let file = self.directory.path().join(format!("{model}.db"));
                rusqlite::Connection::open(file).unwrap().execute_batch(sql).unwrap();
            }
        }
    }

    /// From now on a table refuses rows, in these words, where the condition holds for the new one.
    pub(crate) fn refuse(&self, model: &str, change: &str, table: &str, condition: &str, words: &str) {
        let sql = match &self.database {
            Some(_) => format!(
                "CREATE FUNCTION refuse_{table}() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN RAISE EXCEPTION '{words}' USING ERRCODE = 'check_violation'; END $$;
                 CREATE TRIGGER refused BEFORE {change} ON {table} FOR EACH ROW WHEN ({condition})
                     EXECUTE FUNCTION refuse_{table}()"
            ),
            None => format!(
                "CREATE TRIGGER refused_{table} BEFORE {change} ON {table} WHEN {condition}
                 BEGIN SELECT raise(ABORT, '{words}'); END"
            ),
        };
        self.execute(model, &sql);
    }

    /// Takes rows again.
    pub(crate) fn refuse_no_more(&self, model: &str, table: &str) {
        let sql = match &self.database {
            Some(_) => format!("DROP TRIGGER refused ON {table}"),
            None => format!("DROP TRIGGER refused_{table}"),
        };
        self.execute(model, &sql);
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// As after a crash: everything in memory is gone.
    pub(crate) fn restart(&mut self) {
        self.try_to_restart().unwrap();
    }

    /// [`Bench::restart`] on files that may not open. Without projectors then, until it succeeds.
    pub(crate) fn try_to_restart(&mut self) -> Result<(), OpenError> {
        self.runners.clear();
        self.models = ReadModels::open(self.try_storage()?)?;
        self.runners = self.models.projectors(self.store.clone())?;
        Ok(())
    }

    pub(crate) fn append(&mut self, stream: &str, time: DateTime<Utc>, events: Vec<Event>) -> Position {
        let events =
            events.iter().map(|event| (event.kind(), event.schema_version(), event.to_json())).collect();
        self.append_raw(stream, time, events)
    }

    pub(crate) fn append_raw(
        &mut self,
        stream: &str,
        time: DateTime<Utc>,
        events: Vec<(&str, u16, Vec<u8>)>,
    ) -> Position {
        let events = events.into_iter().map(|(kind, schema_version, data)| {
            self.appended += 1;
            NewEvent {
                id: Uuid::from_u128(self.appended),
                kind: kind.into(),
                schema_version,
                data: data.into(),
            }
        });
        let append = StreamAppend {
            stream: stream.into(),
            expected: Expected::Any,
            metadata: Metadata {
                time,
                tenant: Some("acme".into()),
                correlation: Uuid::from_u128(7),
                causation: None,
                actor: "test".into(),
                traceparent: None,
            },
            events: events.collect(),
        };
        let batch = Batch::new(BatchMode::Independent, vec![append]);
        run(self.store.append(batch)).pop().unwrap().unwrap().position
    }

    /// Steps one projector once.
    pub(crate) fn step(&mut self, place: usize) -> Projected {
        self.step_at(place, at(0)).unwrap()
    }

    /// [`Bench::step`] at this time.
    pub(crate) fn step_at(&mut self, place: usize, now: DateTime<Utc>) -> Result<Projected, ProjectError> {
        run(self.runners[place].step(now))
    }

    /// Where the log ends.
    pub(crate) fn head(&self) -> Position {
        *self.store.head().borrow()
    }

    pub(crate) fn runners(&mut self) -> &mut Vec<Box<dyn Runner>> {
        &mut self.runners
    }

    /// Steps all projectors until there is nothing left.
    pub(crate) fn project(&mut self) {
        for place in 0..self.runners.len() {
            while let Projected::Advanced { .. } = self.step(place) {}
        }
    }

    /// Accepts and seals a sending of one lot.
    pub(crate) fn accept(&mut self, number: u128, messages: u32, class: MessageClass) -> SendingId {
        let id = sending_id(number);
        let lot = LotId { sending: id, number: 0 };
        self.append(&lot.stream(), at(0), vec![lot_accepted(id, 0, messages, class).into()]);
        self.append(&id.stream(), at(1), vec![sending_accepted(id, 1, messages, class).into()]);
        id
    }
}

pub(crate) fn lot_accepted(
    sending: SendingId,
    number: u32,
    messages: u32,
    class: MessageClass,
) -> LotAccepted {
    let first = number * 1_000;
    LotAccepted {
        sending,
        tenant: tenant(),
        class,
        number,
        groups: vec![TypeGroup {
            message_type: MessageType::Sms,
            parts: 1,
            reach: None,
            messages: seqs(first..first + messages),
        }],
        personal: LotPersonal {
            recipients: (first..first + messages)
                .map(|seq| Recipient {
                    to: format!("0100000{seq:04}").into(),
                    email: (seq % 2 == 0).then(|| format!("p{seq}@example.com").into()),
                    contact: None,
                    reference: None,
                    variables: BTreeMap::new(),
                })
                .collect(),
        },
    }
}

pub(crate) fn sending_accepted(
    sending: SendingId,
    lots: u32,
    messages: u32,
    class: MessageClass,
) -> SendingAccepted {
    SendingAccepted {
        sending,
        tenant: tenant(),
        class,
        from_phone: Some("0212345678".into()),
        from_email: None,
        lots,
        messages,
        refused: 0,
        scheduled_at: None,
        expires_at: at(0) + TimeDelta::days(1),
        failover: FailoverTerms::default(),
        ad: None,
        client_reference: Some("order-7".to_owned()),
        custom: None,
        body_hash: None,
        personal: SendingContent { subject: None, text: "hello".to_owned(), variables: BTreeMap::new() },
    }
}

pub(crate) fn route(to: &str, attempt: u16, messages: SeqSet) -> RouteSet {
    RouteSet {
        relay: relay(to),
        channel: MessageType::Sms,
        attempt,
        messages,
        fallbacks: vec![],
        price_milliwon: 9_000,
        bills: BillingMoment::Delivered,
        reason: format!("because of {to}"),
    }
}
