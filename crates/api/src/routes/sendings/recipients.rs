//! Recipients of a request: its rows, those that name a contact filled from the address book, and the contacts of groups.
//!
//! Each is good or refused with its reason when it leaves here ([`RecipientRow`]).

use kite_commands::accept::{
    AcceptLimits, RecipientInput, RecipientRow, RefusedRow, RowRefusal, SendRequest,
};
use kite_domain::ids::{ContactId, GroupId};
use kite_domain::slug::TenantId;
use kite_domain::text::RequestedType;
use kite_projections::Contact;
use smol_str::SmolStr;
use std::collections::BTreeMap;

use super::SendingBody;
use super::request::{BodyRow, ContactRow, RecipientBody};
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::state::ApiState;

/// What the address book may bring to one request: the values of fields, in bytes.
const FIELDS_BYTES_MAX: usize = 64 << 20;

/// Each group is looked up, however few are in it.
const GROUPS_MAX: usize = 100;

/// Contacts read at once.
const PAGE: usize = 1_000;

/// After so many rows others have their turn.
const ROWS_AT_ONCE: usize = 500;

/// Reads the rows of a body, fills those that name a contact, and appends the contacts of the groups.
pub(super) async fn expand(
    state: &ApiState,
    tenant: &TenantId,
    mut body: SendingBody,
) -> Answer<SendRequest> {
    let recipients_max = state.config.recipients_max;
    if body.recipients.len() > recipients_max {
        return Err(too_many(recipients_max));
    }
    if body.groups.len() > GROUPS_MAX {
        let detail = format!("at most {GROUPS_MAX} groups can be named");
        let error = FieldError::new("groups", "too_many", detail.clone());
        return Err(
            Problem::new(Code::RequestRefused, format!("The sending was refused: {detail}.")).at(error)
        );
    }
    let (recipients, groups) = (std::mem::take(&mut body.recipients), std::mem::take(&mut body.groups));
    let mut book = Book {
        state,
        tenant,
        limits: state.acceptance.limits(),
        requested: body.message_type.into(),
        recipients_max,
        fields_bytes_left: FIELDS_BYTES_MAX,
    };
    let rows = book.read(recipients).await;
    let names_contact = rows.iter().any(|row| matches!(row, BodyRow::OfContact(_)));
    if names_contact || !groups.is_empty() {
        state.own_contact_writes(tenant).await?;
    }
    let mut rows = book.fill(rows).await?;
    for (place, group) in groups.into_iter().enumerate() {
        book.append_group(&mut rows, place, group).await?;
    }
    Ok(body.into_request(rows))
}

fn too_many(recipients_max: usize) -> Problem {
    Problem::new(
        Code::TooManyRecipients,
        format!("One request may name at most {recipients_max} recipients."),
    )
}

/// The address book as one request sees it.
struct Book<'a> {
    state: &'a ApiState,
    tenant: &'a TenantId,
    limits: &'a AcceptLimits,
    /// The type that contacts need an address for.
    requested: RequestedType,
    recipients_max: usize,
    /// What the address book may still bring.
    fields_bytes_left: usize,
}

/// Every so many rows, lets others have their turn.
async fn give_way(rows_done: usize) {
    if rows_done > 0 && rows_done.is_multiple_of(ROWS_AT_ONCE) {
        tokio::task::yield_now().await;
    }
}

impl Book<'_> {
    async fn read(&self, recipients: Vec<RecipientBody>) -> Vec<BodyRow> {
        let mut rows = Vec::with_capacity(recipients.len());
        for (row, recipient) in (0..).zip(recipients) {
            give_way(row as usize).await;
            rows.push(recipient.read(row, self.limits));
        }
        rows
    }

    async fn fill(&mut self, rows: Vec<BodyRow>) -> Answer<Vec<RecipientRow>> {
        let named = rows.iter().filter_map(|row| match row {
            BodyRow::OfContact(row) => Some(row.contact),
            BodyRow::Told(_) => None,
        });
        let mut contacts = self.contacts(named.collect()).await?.into_iter();
        let mut filled = Vec::with_capacity(rows.len());
        for row in rows {
            give_way(filled.len()).await;
            filled.push(match row {
                BodyRow::Told(row) => row,
                BodyRow::OfContact(row) => row.fill(contacts.next().flatten(), self.requested, self.limits),
            });
        }
        Ok(filled)
    }

    /// Each of these contacts, if there is one.
    async fn contacts(&mut self, ids: Vec<ContactId>) -> Answer<Vec<Option<Contact>>> {
        let mut contacts = Vec::with_capacity(ids.len());
        for page in ids.chunks(PAGE) {
            let (tenant, ids) = (self.tenant.clone(), page.to_vec());
            let found =
                self.state.query(move |models| models.address_book.contacts_by_id(&tenant, &ids)).await?;
            found.iter().flatten().try_for_each(|contact| self.make_room(contact))?;
            contacts.extend(found);
        }
        Ok(contacts)
    }

    async fn append_group(&mut self, rows: &mut Vec<RecipientRow>, place: usize, id: GroupId) -> Answer<()> {
        let owner = self.tenant.clone();
        let group = self.state.query(move |models| models.address_book.group(&owner, id)).await?;
        if group.is_none() {
            let error =
                FieldError::new(format!("groups[{place}]"), "group_not_found", "there is no such group");
            return Err(Problem::new(Code::RequestRefused, "There is no such group.").at(error));
        }
        let mut after = None;
        loop {
            let owner = self.tenant.clone();
            let members = self
                .state
                .query(move |models| models.address_book.group_members(&owner, id, after, PAGE))
                .await?;
            let Some(last) = members.last() else { return Ok(()) };
            after = Some(last.id);
            if rows.len() + members.len() > self.recipients_max {
                return Err(too_many(self.recipients_max));
            }
            members.iter().try_for_each(|member| self.make_room(member))?;
            for member in members {
                give_way(rows.len()).await;
                let row = ContactRow::of_group(rows.len() as u32, member.id);
                rows.push(row.fill(Some(member), self.requested, self.limits));
            }
        }
    }

    fn make_room(&mut self, contact: &Contact) -> Answer<()> {
        let bytes: usize = contact.fields.values().map(String::len).sum();
        let left = self.fields_bytes_left.checked_sub(bytes);
        self.fields_bytes_left = left.ok_or_else(|| {
            let detail = format!("the fields of its contacts have more than {FIELDS_BYTES_MAX} bytes");
            let error = FieldError::new("recipients", "too_large", detail.clone());
            Problem::new(Code::RequestRefused, format!("The sending was refused: {detail}.")).at(error)
        })?;
        Ok(())
    }
}

impl ContactRow {
    fn of_group(row: u32, contact: ContactId) -> Self {
        Self { row, contact, email: None, reference: None, variables: BTreeMap::new() }
    }

    /// Address and variables of the contact; what the row brings itself counts first.
    pub(super) fn fill(
        self,
        contact: Option<Contact>,
        requested: RequestedType,
        limits: &AcceptLimits,
    ) -> RecipientRow {
        let row = self.row;
        let refused = |reason| RefusedRow { row, reason, to: SmolStr::default() }.into();
        let Some(contact) = contact else { return refused(RowRefusal::ContactNotFound) };
        let (to, email) = match requested {
            RequestedType::Email => (contact.email, None),
            RequestedType::Auto => match contact.phone {
                Some(phone) => (Some(phone), contact.email),
                None => (contact.email, None),
            },
            RequestedType::Sms | RequestedType::Lms | RequestedType::Mms | RequestedType::Alimtalk => {
                (contact.phone, contact.email)
            }
        };
        let Some(to) = to else { return refused(RowRefusal::ContactWithoutAddress) };
        let mut variables = self.variables;
        for (name, value) in contact.fields {
            variables.entry(name).or_insert(value);
        }
        if !contact.name.is_empty() {
            variables.entry(SmolStr::new_static("name")).or_insert(contact.name);
        }
        let input = RecipientInput {
            row,
            to,
            email: self.email.or(email),
            // The heir, where the contact was merged into another.
            contact: Some(contact.id),
            reference: self.reference,
            variables,
        };
        input.read(limits)
    }
}
