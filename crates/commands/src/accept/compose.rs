//! From rows to lots: each row is parsed, typed and put into a lot, or refused with its reason.

use kite_domain::address::{Address, EmailAddress, PhoneKind};
use kite_domain::ids::{SEQS_PER_LOT, SendingId};
use kite_domain::lot::{LotAccepted, LotPersonal, Recipient, TypeGroup};
use kite_domain::mutation;
use kite_domain::opt_out::{AdBrands, Refusals, RefusedBy};
use kite_domain::relay::Ineligible;
use kite_domain::sending::MessageClass;
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::{MessageType, Resolved, TextPart, TextRefusal, TypeRequest, VARIABLES_MAX, resolve};
use smol_str::SmolStr;
use std::collections::HashSet;

use super::bounds::{LOT_RECIPIENTS_BYTES_MAX, check_reference, size_of_recipient};
use super::request::{AcceptLimits, DuplicateRow, RecipientInput, RefusedRow, SendRequest};
use super::terms::{CheckedTerms, needed_variables};
use crate::directory::DirectoryState;
use crate::policy::policy_in_force;

/// The word for a row that no relay can carry.
pub(super) const NO_RELAY: &str = "no_relay";

/// How many bytes may be filled in for one request, over all recipients: some hundred times the largest body.
/// Otherwise a request that repeats a long value in a text, for many recipients, would take gigabytes of work.
const FILLING_BYTES_MAX: usize = 128 << 20;

/// A lot before it has a sending.
#[derive(Debug)]
pub(super) struct ComposedLot {
    number: u32,
    class: MessageClass,
    groups: Vec<TypeGroup>,
    recipients: Vec<Recipient>,
    bytes: usize,
}

impl ComposedLot {
    fn new(number: u32, class: MessageClass) -> Self {
        Self { number, class, groups: Vec::new(), recipients: Vec::new(), bytes: 0 }
    }

    pub(super) fn into_event(self, sending: SendingId, tenant: &TenantId) -> LotAccepted {
        LotAccepted {
            sending,
            tenant: tenant.clone(),
            class: self.class,
            number: self.number,
            groups: self.groups,
            personal: LotPersonal { recipients: self.recipients },
        }
    }

    pub(super) fn groups(&self) -> &[TypeGroup] {
        &self.groups
    }

    /// The sequence number of the recipient at this place.
    pub(super) fn seq(&self, place: usize) -> u32 {
        self.number * SEQS_PER_LOT + place as u32
    }

    fn is_full(&self, bytes: usize) -> bool {
        self.recipients.len() >= SEQS_PER_LOT as usize || self.bytes + bytes > LOT_RECIPIENTS_BYTES_MAX
    }

    fn push(&mut self, good: GoodRow) {
        let seq = self.seq(self.recipients.len());
        let parts = u16::try_from(good.resolved.parts).unwrap_or(u16::MAX);
        let same = |group: &&mut TypeGroup| {
            group.message_type == good.resolved.message_type
                && group.parts == parts
                && group.reach == good.reach
        };
        match self.groups.iter_mut().find(same) {
            Some(group) => group.messages.push(seq),
            None => self.groups.push(TypeGroup {
                message_type: good.resolved.message_type,
                parts,
                reach: good.reach,
                messages: std::iter::once(seq).collect::<SeqSet>(),
            }),
        }
        self.recipients.push(good.recipient);
        self.bytes += good.bytes;
    }
}

/// What became of all rows.
#[derive(Debug)]
pub(super) struct Composed {
    pub(super) lots: Vec<ComposedLot>,
    pub(super) messages: u32,
    pub(super) refused: Vec<RefusedRow>,
    pub(super) duplicates: Vec<DuplicateRow>,
}

struct GoodRow {
    recipient: Recipient,
    resolved: Resolved,
    reach: Option<PhoneKind>,
    bytes: usize,
}

/// Goes through the rows. It yields after every lot, so that a large request does not delay a small one.
pub(super) async fn compose(
    tenant: &TenantId,
    request: &SendRequest,
    terms: &CheckedTerms,
    directory: &DirectoryState,
    refusals: &Refusals,
    limits: &AcceptLimits,
) -> Composed {
    let mut composer = Composer {
        tenant,
        class: request.class,
        request: TypeRequest {
            requested: request.message_type,
            max_type: request.max_type,
            images: 0,
            limits: limits.text,
        },
        terms,
        directory,
        refusals,
        ad_brands: AdBrands::of(terms.ad.as_ref().map_or(&[][..], |ad| &ad.brands)),
        limits,
        carriers: Vec::new(),
        filling_bytes_left: FILLING_BYTES_MAX,
    };
    let mut composed =
        Composed { lots: Vec::new(), messages: 0, refused: Vec::new(), duplicates: Vec::new() };
    let mut seen: HashSet<SmolStr> = HashSet::with_capacity(request.recipients.len());
    for (place, row) in request.recipients.iter().enumerate() {
        if place > 0 && place % 500 == 0 {
            tokio::task::yield_now().await;
        }
        let good = match composer.row(row) {
            Ok(good) => good,
            Err(refused) => {
                composed.refused.push(refused);
                continue;
            }
        };
        if !request.allow_duplicates && !seen.insert(good.recipient.to.clone()) {
            composed.duplicates.push(DuplicateRow { row: row.row, to: row.to.clone() });
            continue;
        }
        let bytes = good.bytes;
        if composed.lots.last().is_none_or(|lot| lot.is_full(bytes)) {
            composed.lots.push(ComposedLot::new(composed.lots.len() as u32, request.class));
        }
        if let Some(lot) = composed.lots.last_mut() {
            lot.push(good);
        }
        composed.messages += 1;
    }
    mutation::bug!(RowsDropped, composed.refused.clear());
    composed
}

/// The addresses of all rows that have a valid one, in the form in which refusals are looked up.
pub(super) fn addresses(request: &SendRequest) -> Vec<SmolStr> {
    let of_row = |row: &RecipientInput| {
        let to = Address::parse(&row.to).ok().map(|to| SmolStr::new(to.as_str()));
        let email = row.email.as_deref().and_then(|email| EmailAddress::parse(email).ok());
        to.into_iter().chain(email.map(|email| email.as_str().into()))
    };
    request.recipients.iter().flat_map(of_row).collect()
}

struct Composer<'c> {
    tenant: &'c TenantId,
    class: MessageClass,
    request: TypeRequest,
    terms: &'c CheckedTerms,
    directory: &'c DirectoryState,
    /// What the recipients refuse.
    refusals: &'c Refusals,
    /// Whose advertisement it is, if it is one.
    ad_brands: AdBrands,
    limits: &'c AcceptLimits,
    /// Whether any relay could ever carry a type to a kind of number for this sender.
    carriers: Vec<(Carriage, Result<(), NoCarrier>)>,
    /// How much may still be filled in for this request.
    filling_bytes_left: usize,
}

/// Why no relay could ever carry a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum NoCarrier {
    #[error("the policy gives no share to a relay that can carry this {0}")]
    NoShare(MessageType),
    #[error("no relay offers {0}")]
    NotOffered(MessageType),
    #[error("no relay can carry this {channel} ({})", .of.iter().map(in_words).collect::<Vec<_>>().join("; "))]
    NoneCan {
        channel: MessageType,
        /// Of each relay that offers it.
        of: Vec<(RelayId, Ineligible)>,
    },
}

fn in_words((relay, why): &(RelayId, Ineligible)) -> String {
    format!("{relay}: {why}")
}

/// What has to be carried: a type to a kind of number.
type Carriage = (MessageType, Option<PhoneKind>);

impl Composer<'_> {
    fn row(&mut self, row: &RecipientInput) -> Result<GoodRow, RefusedRow> {
        let refused = |field: &'static str, code: &'static str, detail: String| RefusedRow {
            row: row.row,
            field,
            code,
            detail,
            to: row.to.clone(),
        };
        let address =
            Address::parse(&row.to).map_err(|error| refused("to", error.code(), error.to_string()))?;
        let email = row
            .email
            .as_deref()
            .map(EmailAddress::parse)
            .transpose()
            .map_err(|error| refused("email", error.code(), error.to_string()))?;
        if let Some(reference) = &row.reference {
            check_reference(reference, self.limits)
                .map_err(|error| refused("reference", "too_long", error.to_string()))?;
        }
        if row.contact.is_none() && row.variables.len() > VARIABLES_MAX {
            let count = row.variables.len();
            let detail = format!("{count} variables; at most {VARIABLES_MAX} are allowed");
            return Err(refused("variables", "too_many_variables", detail));
        }
        let lookup = |name: &str| {
            let own = row.variables.get(name).map(String::as_str);
            own.or_else(|| self.terms.content.variables.get(name).map(String::as_str))
        };
        let texts = self.terms.subject.iter().chain([&self.terms.text]);
        let filling_bytes: usize = texts.map(|text| text.filling_bytes(lookup)).sum();
        self.filling_bytes_left = match self.filling_bytes_left.checked_sub(filling_bytes) {
            Some(left) => left,
            None => {
                let detail = format!(
                    "the values of one request may come to {FILLING_BYTES_MAX} bytes, each counted wherever it stands \
                     in a text"
                );
                return Err(refused("variables", "values_too_large", detail));
            }
        };
        let resolved =
            resolve(&self.request, &address, self.terms.subject.as_ref(), &self.terms.text, lookup)
                .map_err(|error| refused(refused_field(&error), error.code(), error.to_string()))?;
        let reach = address.as_phone().map(|phone| phone.kind());
        let sender = match resolved.message_type {
            MessageType::Email => self.terms.from_email.as_ref().ok_or("from_email"),
            _ => self.terms.from_phone.as_ref().ok_or("from"),
        };
        if let Err(field) = sender {
            let detail = format!("an {} needs a sender (`{field}`)", resolved.message_type);
            return Err(refused("to", "sender_missing", detail));
        }
        if let Err(why) = self.carrier(resolved.message_type, reach) {
            return Err(refused("to", NO_RELAY, why.to_string()));
        }
        if resolved.message_type != MessageType::Email
            && let Some(opens) = self.terms.held_until.filter(|opens| self.terms.expires_at <= *opens)
        {
            let detail = format!("the advertisement would be held until {opens} and have expired by then");
            return Err(refused("lifetime_seconds", "lifetime_ends_in_window", detail));
        }
        if self.class == MessageClass::Ad {
            let email = email.as_ref().map(|email| ("email", email.as_str()));
            let mut addresses = std::iter::once(("to", address.as_str())).chain(email);
            let refusal = addresses.find_map(|(field, text)| {
                let by = self.refusals.refused_by(text, &self.ad_brands)?;
                Some((field, by))
            });
            if let Some((field, by)) = refusal {
                let detail = match by {
                    RefusedBy::Itself => "the recipient refuses advertisements",
                    RefusedBy::SamePerson => "the recipient refuses advertisements, by another address",
                };
                return Err(refused(field, "opted_out", detail.to_owned()));
            }
        }
        let recipient = Recipient {
            to: address.as_str().into(),
            email: email.map(|email| email.as_str().into()),
            contact: row.contact,
            reference: row.reference.clone(),
            variables: needed_variables(&self.terms.text, self.terms.subject.as_ref(), &row.variables),
        };
        let bytes = size_of_recipient(&recipient);
        if bytes > LOT_RECIPIENTS_BYTES_MAX {
            let detail =
                format!("the row would take {bytes} bytes; at most {LOT_RECIPIENTS_BYTES_MAX} are stored");
            return Err(refused("variables", "row_too_large", detail));
        }
        Ok(GoodRow { recipient, resolved, reach, bytes })
    }

    fn carrier(&mut self, channel: MessageType, reach: Option<PhoneKind>) -> Result<(), NoCarrier> {
        let key = (channel, reach);
        if let Some((_, known)) = self.carriers.iter().find(|(known, _)| *known == key) {
            return known.clone();
        }
        let registered = match channel {
            MessageType::Email => &self.terms.email_relays,
            _ => &self.terms.phone_relays,
        };
        let answer = possible_carriers(self.directory, channel, reach, registered).and_then(|possible| {
            let in_force = policy_in_force(self.directory, self.tenant, channel, &possible);
            let has_share =
                in_force.weights.iter().any(|share| share.weight > 0 && possible.contains(&share.relay));
            match has_share {
                true => Ok(()),
                false => Err(NoCarrier::NoShare(channel)),
            }
        });
        self.carriers.push((key, answer.clone()));
        answer
    }
}

/// The relays that can carry such a message now, or could after what keeps them from it has passed.
fn possible_carriers(
    directory: &DirectoryState,
    channel: MessageType,
    reach: Option<PhoneKind>,
    registered: &[RelayId],
) -> Result<Vec<RelayId>, NoCarrier> {
    let mut possible = Vec::new();
    let mut of = Vec::new();
    for (relay, _) in directory.relays.iter() {
        match directory.relays.eligible(relay, channel, reach, registered) {
            Ok(_) => possible.push(relay.clone()),
            Err(reason) if reason.is_passing() => possible.push(relay.clone()),
            Err(Ineligible::NoChannel) => {}
            Err(reason) => of.push((relay.clone(), reason)),
        }
    }
    match (possible.is_empty(), of.is_empty()) {
        (false, _) => Ok(possible),
        (true, true) => Err(NoCarrier::NotOffered(channel)),
        (true, false) => Err(NoCarrier::NoneCan { channel, of }),
    }
}

fn refused_field(refusal: &TextRefusal) -> &'static str {
    match refusal {
        TextRefusal::MissingVariable { .. }
        | TextRefusal::PlaceholderInResult { .. }
        | TextRefusal::FilledInTooLong { .. } => "variables",
        TextRefusal::SubjectTooLong { .. }
        | TextRefusal::SubjectLineBreak
        | TextRefusal::SubjectNotForType { .. }
        | TextRefusal::ControlCharacter { part: TextPart::Subject, .. } => "subject",
        TextRefusal::AddressNotForType { .. } => "to",
        TextRefusal::TypeNotSupported { .. } | TextRefusal::PromotionRefused { .. } => "type",
        TextRefusal::UnmappableCharacters { .. }
        | TextRefusal::TextEmpty
        | TextRefusal::ControlCharacter { part: TextPart::Text, .. }
        | TextRefusal::TextTooLong { .. }
        | TextRefusal::TooManyParts { .. } => "text",
    }
}
