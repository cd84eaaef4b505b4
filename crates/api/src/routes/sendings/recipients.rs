//! Recipients from the address book: rows that name a contact, and the contacts of groups.
//!
//! A row that cannot be filled in stays in the request with an empty address, so that the write side counts it as
//! refused; [`UnfilledRows::name_refused`] then gives the row its real reason.

use kite_commands::accept::{RecipientInput, RefusedRow, SendRequest};
use kite_domain::ids::{ContactId, GroupId};
use kite_domain::slug::TenantId;
use kite_domain::text::RequestedType;
use kite_projections::Contact;
use smol_str::SmolStr;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::SendingBody;
use super::request::WrongValue;
use crate::problem::{Answer, Code, FieldError, Problem};
use crate::state::ApiState;

/// What the address book may bring to one request: the values of fields, in bytes.
const FIELDS_BYTES_MAX: usize = 64 << 20;

/// Each group is looked up, however few are in it.
const GROUPS_MAX: usize = 100;

/// Contacts read at once.
const PAGE: usize = 1_000;

/// A request with all its recipients.
pub(super) struct Expanded {
    pub(super) request: SendRequest,
    unfilled: HashMap<u32, Unfilled>,
    /// What the address book may still bring.
    fields_bytes_left: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Unfilled {
    Wrong(WrongValue),
    NoSuchContact,
    NoAddress,
    ToAndContact,
    OnlyEmail,
    NeitherToNorContact,
}

impl Unfilled {
    fn words(&self) -> (&'static str, &'static str, &str) {
        match self {
            Self::Wrong(value) => (value.field, value.code, &value.detail),
            Self::OnlyEmail => (
                "to",
                "recipient_missing",
                "give the e-mail address in `to`; `email` is only where to fail over to",
            ),
            Self::NoSuchContact => ("contact", "contact_not_found", "there is no such contact"),
            Self::NoAddress => {
                ("contact", "contact_without_address", "the contact has no address for this type")
            }
            Self::ToAndContact => {
                ("contact", "to_and_contact", "a recipient has either `to` or `contact`, not both")
            }
            Self::NeitherToNorContact => ("to", "recipient_missing", "a recipient needs `to` or `contact`"),
        }
    }
}

impl Expanded {
    /// The request, and what is known about the rows that could not be filled in.
    pub(super) fn into_parts(self) -> (SendRequest, UnfilledRows) {
        (self.request, UnfilledRows(self.unfilled))
    }
}

impl UnfilledRows {
    /// Gives rows that could not be filled in their real reason.
    pub(super) fn name_refused(&self, rows: &mut [RefusedRow]) {
        for row in rows {
            if let Some(reason) = self.0.get(&row.row) {
                let (field, code, detail) = reason.words();
                row.field = field;
                row.code = code;
                detail.clone_into(&mut row.detail);
            }
        }
    }
}

/// Rows that could not be filled.
pub(super) struct UnfilledRows(HashMap<u32, Unfilled>);

/// Fills rows that name a contact, and appends the contacts of the groups.
pub(super) async fn expand(state: &ApiState, tenant: &TenantId, body: SendingBody) -> Answer<Expanded> {
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
    let needs_book = body.names_contacts() || !body.groups.is_empty();
    let groups = body.groups.clone();
    let (request, wrong) = body.into_rows();
    let unfilled = wrong.into_iter().map(|(row, value)| (row, Unfilled::Wrong(value))).collect();
    let mut expanded = Expanded { request, unfilled, fields_bytes_left: FIELDS_BYTES_MAX };
    expanded.check_rows();
    if needs_book {
        state.own_contact_writes(tenant).await?;
        expanded.fill_contacts(state, tenant).await?;
        for (place, group) in groups.into_iter().enumerate() {
            expanded.append_group(state, tenant, place, group, recipients_max).await?;
        }
    }
    Ok(expanded)
}

fn too_many(recipients_max: usize) -> Problem {
    Problem::new(
        Code::TooManyRecipients,
        format!("One request may name at most {recipients_max} recipients."),
    )
}

impl Expanded {
    fn check_rows(&mut self) {
        for row in &mut self.request.recipients {
            // What is known to be wrong is the reason, whatever is missing because of it.
            if let Entry::Vacant(place) = self.unfilled.entry(row.row) {
                let reason = match (row.to.is_empty(), row.contact) {
                    (true, None) if row.email.is_some() => Unfilled::OnlyEmail,
                    (true, None) => Unfilled::NeitherToNorContact,
                    (false, Some(_)) => Unfilled::ToAndContact,
                    (true, Some(_)) | (false, None) => continue,
                };
                place.insert(reason);
            }
            row.to = SmolStr::default();
            row.contact = None;
        }
    }

    async fn fill_contacts(&mut self, state: &ApiState, tenant: &TenantId) -> Answer<()> {
        let requested = self.request.message_type;
        let places: Vec<(usize, ContactId)> = self
            .request
            .recipients
            .iter()
            .enumerate()
            .filter_map(|(place, row)| row.contact.map(|contact| (place, contact)))
            .collect();
        for page in places.chunks(PAGE) {
            let (tenant, ids) = (tenant.clone(), page.iter().map(|(_, id)| *id).collect::<Vec<_>>());
            let found = state.query(move |models| models.address_book.contacts_by_id(&tenant, &ids)).await?;
            found.iter().flatten().try_for_each(|contact| self.make_room(contact))?;
            for ((place, _), contact) in page.iter().zip(found) {
                let row = &mut self.request.recipients[*place];
                let problem = match contact {
                    Some(contact) => fill(row, contact, requested).err(),
                    None => Some(Unfilled::NoSuchContact),
                };
                if let Some(problem) = problem {
                    self.unfilled.insert(row.row, problem);
                }
            }
        }
        Ok(())
    }

    async fn append_group(
        &mut self,
        state: &ApiState,
        tenant: &TenantId,
        place: usize,
        id: GroupId,
        recipients_max: usize,
    ) -> Answer<()> {
        let owner = tenant.clone();
        let group = state.query(move |models| models.address_book.group(&owner, id)).await?;
        if group.is_none() {
            let error =
                FieldError::new(format!("groups[{place}]"), "group_not_found", "there is no such group");
            return Err(Problem::new(Code::RequestRefused, "There is no such group.").at(error));
        }
        let mut after = None;
        loop {
            let owner = tenant.clone();
            let members =
                state.query(move |models| models.address_book.group_members(&owner, id, after, PAGE)).await?;
            let Some(last) = members.last() else { return Ok(()) };
            after = Some(last.id);
            if self.request.recipients.len() + members.len() > recipients_max {
                return Err(too_many(recipients_max));
            }
            members.iter().try_for_each(|member| self.make_room(member))?;
            members.into_iter().for_each(|member| self.append(member));
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

    fn append(&mut self, member: Contact) {
        let requested = self.request.message_type;
        let mut row = RecipientInput {
            row: self.request.recipients.len() as u32,
            to: SmolStr::default(),
            email: None,
            contact: Some(member.id),
            reference: None,
            variables: BTreeMap::new(),
        };
        if let Err(problem) = fill(&mut row, member, requested) {
            self.unfilled.insert(row.row, problem);
        }
        self.request.recipients.push(row);
    }
}

/// Address and variables of a contact; values of the row itself come first.
fn fill(row: &mut RecipientInput, contact: Contact, requested: RequestedType) -> Result<(), Unfilled> {
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
    // The heir, where the contact was merged into another.
    row.contact = Some(contact.id);
    row.to = to.ok_or(Unfilled::NoAddress)?;
    row.email = row.email.take().or(email);
    for (name, value) in contact.fields {
        row.variables.entry(name).or_insert(value);
    }
    if !contact.name.is_empty() {
        row.variables.entry(SmolStr::new_static("name")).or_insert(contact.name);
    }
    Ok(())
}
