//! Which addresses are one person's, and so whom a refusal should bind.
//!
//! Addresses are one person's when they stand in one contact. One that a contact gave up is no longer known as theirs
//! (numbers are given to others); one that it lost when it was merged with another contact is. What follows from it for
//! refusals is a row in `bonds`, and stays one, whatever becomes of the contact, until the refusal is taken back: the
//! write side makes an event of it, and `is_told` says that it has. All of it follows from the order of the log.

use kite_domain::address::identity;
use kite_domain::ids::ContactId;
use kite_domain::opt_out::{OptOutExtended, OptOutRecorded, OptOutWithdrawn, brand_identity};
use kite_domain::slug::TenantId;
use rusqlite::{Connection, params};
use smol_str::SmolStr;
use std::collections::BTreeSet;

use crate::sql::text;

/// A person has no more addresses than this: whoever writes chains of contacts keeps nobody busy with them.
const ADDRESSES_MAX: usize = 64;

/// The addresses of a contact, as it was and as it is.
pub(super) struct Addresses {
    /// Those that it had and has no more.
    pub(super) given_up: Vec<SmolStr>,
    /// Those that it has.
    pub(super) present: Vec<SmolStr>,
}

impl Addresses {
    /// From the columns of both rows.
    pub(super) fn of(before: [&Option<SmolStr>; 2], now: [&Option<SmolStr>; 2]) -> Self {
        let identities = |columns: [&Option<SmolStr>; 2]| -> Vec<SmolStr> {
            columns.into_iter().flatten().map(|address| identity(address).into()).collect()
        };
        let present = identities(now);
        let given_up = identities(before).into_iter().filter(|one| !present.contains(one)).collect();
        Self { given_up, present }
    }
}

/// A contact is saved.
pub(super) fn saved(
    transaction: &Connection,
    tenant: &TenantId,
    contact: ContactId,
    addresses: &Addresses,
) -> rusqlite::Result<()> {
    let id = contact.0.as_bytes();
    for address in &addresses.given_up {
        transaction
            .prepare_cached("DELETE FROM people WHERE tenant = ?1 AND address = ?2 AND contact = ?3")?
            .execute(params![tenant.as_str(), address.as_str(), id])?;
    }
    for address in &addresses.present {
        transaction
            .prepare_cached(
                "INSERT INTO people (tenant, address, contact) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )?
            .execute(params![tenant.as_str(), address.as_str(), id])?;
    }
    // Also where it has one address: a contact that was merged into another has those that it had before.
    if let Some(address) = addresses.present.first()
        && anybody_refuses(transaction, tenant)?
    {
        bind_person(transaction, tenant, address)?;
    }
    Ok(())
}

/// A contact is the same person as another and goes away.
pub(super) fn merged(
    transaction: &Connection,
    tenant: &TenantId,
    from: ContactId,
    to: ContactId,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE OR IGNORE people SET contact = ?3 WHERE tenant = ?1 AND contact = ?2")?
        .execute(params![tenant.as_str(), from.0.as_bytes(), to.0.as_bytes()])?;
    forgotten(transaction, tenant, from)
}

/// A contact is gone: nobody knows any more that its addresses are one person's. What was refused stays refused.
pub(super) fn forgotten(
    transaction: &Connection,
    tenant: &TenantId,
    contact: ContactId,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM people WHERE tenant = ?1 AND contact = ?2")?
        .execute(params![tenant.as_str(), contact.0.as_bytes()])
        .map(drop)
}

/// An address refuses. A refusal that is repeated counts from the first time.
pub(super) fn refused(
    transaction: &Connection,
    recorded: &OptOutRecorded,
    time_ms: i64,
) -> rusqlite::Result<()> {
    let tenant = &recorded.tenant;
    let address = identity(&recorded.personal.address);
    transaction
        .prepare_cached(
            "INSERT INTO opt_outs (tenant, identity, brand_identity, address, brand, source, since_ms, refused_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            tenant.as_str(),
            address.as_ref(),
            recorded.brand.as_deref().map(brand_identity).unwrap_or_default().as_str(),
            recorded.personal.address.as_str(),
            recorded.brand,
            recorded.source,
            time_ms,
            recorded.refused_at.map_or(time_ms, |at| at.timestamp_millis())
        ])?;
    for other in person_of(transaction, tenant, &address)? {
        bind(transaction, tenant, &address, &other, false)?;
    }
    Ok(())
}

/// An address agrees again.
pub(super) fn agreed(transaction: &Connection, withdrawn: &OptOutWithdrawn) -> rusqlite::Result<()> {
    let tenant = withdrawn.tenant.as_str();
    let address = identity(&withdrawn.personal.address);
    let brand = withdrawn.brand.as_deref().map(brand_identity);
    transaction
        .prepare_cached(
            "DELETE FROM opt_outs WHERE tenant = ?1 AND identity = ?2 AND (?3 IS NULL OR brand_identity = ?3)",
        )?
        .execute(params![tenant, address.as_ref(), brand.as_deref()])?;
    transaction
        .prepare_cached(
            "DELETE FROM bonds WHERE tenant = ?1 AND address = ?2
               AND NOT EXISTS (SELECT 1 FROM opt_outs WHERE tenant = ?1 AND identity = ?2)",
        )?
        .execute(params![tenant, address.as_ref()])
        .map(drop)
}

/// The log says whom a refusal binds.
pub(super) fn extended(transaction: &Connection, extended: &OptOutExtended) -> rusqlite::Result<()> {
    let address = identity(&extended.personal.address);
    if refuses(transaction, &extended.tenant, &address)? {
        for other in &extended.personal.also {
            bind(transaction, &extended.tenant, &address, &identity(other), true)?;
        }
    }
    Ok(())
}

/// Whatever binds one of a person's addresses binds all of them.
fn bind_person(transaction: &Connection, tenant: &TenantId, address: &str) -> rusqlite::Result<()> {
    let person = person_of(transaction, tenant, address)?;
    let mut refusing = BTreeSet::new();
    for address in &person {
        if refuses(transaction, tenant, address)? {
            refusing.insert(address.clone());
        }
        let mut bound_by =
            transaction.prepare_cached("SELECT address FROM bonds WHERE tenant = ?1 AND other = ?2")?;
        let rows = bound_by.query_map(params![tenant.as_str(), address.as_str()], |row| text(row, 0))?;
        for refused in rows {
            refusing.insert(refused?);
        }
    }
    for refused in &refusing {
        for other in &person {
            bind(transaction, tenant, refused, other, false)?;
        }
    }
    Ok(())
}

fn bind(
    transaction: &Connection,
    tenant: &TenantId,
    address: &str,
    other: &str,
    is_told: bool,
) -> rusqlite::Result<()> {
    if address == other {
        return Ok(());
    }
    transaction
        .prepare_cached(
            "INSERT INTO bonds (tenant, address, other, is_told) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET is_told = 1 WHERE ?4",
        )?
        .execute(params![tenant.as_str(), address, other, is_told])
        .map(drop)
}

fn anybody_refuses(transaction: &Connection, tenant: &TenantId) -> rusqlite::Result<bool> {
    transaction.prepare_cached("SELECT 1 FROM opt_outs WHERE tenant = ?1")?.exists([tenant.as_str()])
}

fn refuses(transaction: &Connection, tenant: &TenantId, address: &str) -> rusqlite::Result<bool> {
    transaction
        .prepare_cached("SELECT 1 FROM opt_outs WHERE tenant = ?1 AND identity = ?2")?
        .exists([tenant.as_str(), address])
}

/// The addresses that stand beside one in contacts. `CROSS JOIN` has SQLite begin with the one that is asked about; by itself
/// it begins with all of the tenant's, because they are sorted.
pub(super) const BESIDE: &str =
    "SELECT DISTINCT o.address FROM people p CROSS JOIN people o ON o.tenant = p.tenant AND o.contact = p.contact
     WHERE p.tenant = ?1 AND p.address = ?2 ORDER BY o.address";

/// All addresses of whoever has this one, itself included.
fn person_of(
    transaction: &Connection,
    tenant: &TenantId,
    address: &str,
) -> rusqlite::Result<BTreeSet<SmolStr>> {
    let mut person = BTreeSet::from([SmolStr::from(address)]);
    let mut to_look_at = vec![SmolStr::from(address)];
    let mut beside = transaction.prepare_cached(BESIDE)?;
    while let Some(next) = to_look_at.pop() {
        let rows = beside.query_map([tenant.as_str(), next.as_str()], |row| text(row, 0))?;
        for other in rows {
            let other = other?;
            if person.len() < ADDRESSES_MAX && person.insert(other.clone()) {
                to_look_at.push(other);
            }
        }
    }
    Ok(person)
}
