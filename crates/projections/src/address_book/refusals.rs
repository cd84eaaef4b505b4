//! What people refuse, looked up for many addresses at once.

use kite_domain::opt_out::Refusals;
use kite_domain::slug::TenantId;
use kite_event_store::Position;
use smol_str::SmolStr;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::queries::AddressBookQueries;
use crate::database;
use crate::engine::{Connection, Row, Value, values};
use crate::error::QueryError;

/// How many addresses are looked up by one statement.
const BATCH: usize = 100;

/// What is known about the refusals that concern some addresses, as of a position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredRefusals {
    /// Everything up to here is in it.
    pub position: Position,
    /// What these addresses, and those of the same people, refused. Nothing of others.
    pub refusals: Refusals,
    /// Streams that are not, or not completely, included, because something of them is parked.
    pub parked: Vec<SmolStr>,
}

/// `$begin` and `$end` around so many places for addresses; the first place is the tenant's.
macro_rules! batch {
    ($begin:literal) => {
        LazyLock::new(|| {
            let places: Vec<String> = (2..BATCH + 2).map(|place| format!("?{place}")).collect();
            format!(concat!($begin, " IN ({})"), places.join(", "))
        })
    };
}

static WHO_REFUSED: LazyLock<String> =
    batch!("SELECT DISTINCT address FROM bonds WHERE is_told = 1 AND tenant = ?1 AND other");
static REFUSED: LazyLock<String> =
    batch!("SELECT identity, brand_identity FROM opt_outs WHERE tenant = ?1 AND identity");
static BOUND: LazyLock<String> =
    batch!("SELECT address, other FROM bonds WHERE is_told = 1 AND tenant = ?1 AND address");

impl AddressBookQueries {
    /// The refusals of these addresses, and those of other addresses of the same person that apply to them. The
    /// addresses are given as their identities.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn refusals(&self, tenant: &TenantId, identities: &[SmolStr]) -> Result<StoredRefusals, QueryError> {
        self.readers.ask(|connection| {
            let mut stored = StoredRefusals {
                position: database::position(connection)?,
                refusals: Refusals::default(),
                parked: parked(connection, tenant)?,
            };
            let of_tenant = "SELECT 1 FROM opt_outs WHERE tenant = ?1";
            if connection.exists(of_tenant, values![tenant.as_str()])? {
                read(connection, tenant, identities, &mut stored.refusals)?;
            }
            Ok(stored)
        })
    }
}

fn read(
    connection: Connection<'_>,
    tenant: &TenantId,
    identities: &[SmolStr],
    refusals: &mut Refusals,
) -> Result<(), QueryError> {
    let mut people: BTreeSet<SmolStr> = identities.iter().cloned().collect();
    people.extend(each(connection, &WHO_REFUSED, tenant, identities, |row| row.text(0))?);
    let people: Vec<SmolStr> = people.into_iter().collect();
    let refused = each(connection, &REFUSED, tenant, &people, |row| Ok((row.text(0)?, row.text(1)?)))?;
    for (address, brand) in refused {
        refusals.know(address, Some(brand).filter(|brand| !brand.is_empty()));
    }
    let bound = each(connection, &BOUND, tenant, &people, |row| Ok((row.text(0)?, row.text(1)?)))?;
    for (address, other) in bound {
        refusals.know_bound(&address, other);
    }
    Ok(())
}

/// What a statement finds for all these addresses.
fn each<T>(
    connection: Connection<'_>,
    sql: &str,
    tenant: &TenantId,
    addresses: &[SmolStr],
    mut found: impl FnMut(&Row<'_>) -> Result<T, crate::engine::StorageError>,
) -> Result<Vec<T>, QueryError> {
    let mut all = Vec::new();
    for batch in addresses.chunks(BATCH) {
        // The last one fills up the places that are left.
        let last = batch.last().into_iter().cycle();
        let filled = batch.iter().chain(last).take(BATCH).map(Value::from);
        let values: Vec<Value<'_>> = std::iter::once(Value::from(tenant.as_str())).chain(filled).collect();
        all.extend(connection.all(sql, &values, |row| Ok::<_, QueryError>(found(row)?))?);
    }
    Ok(all)
}

/// The streams of refusals of which something is parked.
fn parked(connection: Connection<'_>, tenant: &TenantId) -> Result<Vec<SmolStr>, QueryError> {
    // A tenant whose name begins with this one's is among them: whoever reads the events sees whose they are.
    let prefix = format!("opt-out-{tenant}-");
    let sql = "SELECT DISTINCT stream FROM parked
               WHERE kind IN ('opt-out-recorded', 'opt-out-withdrawn', 'opt-out-extended')
                   AND substr(stream, 1, length(?1)) = ?1
               ORDER BY stream";
    connection.all(sql, values![&prefix], |row| Ok(row.text(0)?))
}
