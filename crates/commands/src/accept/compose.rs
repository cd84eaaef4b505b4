//! From rows to lots: each row that is good so far is typed and put into a lot, or refused with its reason.

use kite_domain::address::{PhoneKind, identity};
use kite_domain::ids::{SEQS_PER_LOT, SendingId};
use kite_domain::lot::{LotAccepted, LotPersonal, Recipient, TypeGroup};
use kite_domain::mutation;
use kite_domain::opt_out::{AdBrands, Refusals};
use kite_domain::relay::Ineligible;
use kite_domain::sending::MessageClass;
use kite_domain::seq_set::SeqSet;
use kite_domain::slug::{RelayId, TenantId};
use kite_domain::text::{MessageType, Resolved, TypeRequest, resolve};
use smol_str::SmolStr;
use std::collections::HashSet;

use super::bounds::size_of_recipient;
use super::limits::{AcceptLimits, FILLING_BYTES_MAX, LOT_RECIPIENTS_BYTES_MAX};
use super::request::{DuplicateRow, SendRequest};
use super::row::{GoodRecipient, NoCarrier, RecipientRow, RefusedRow, RowField, RowRefusal};
use super::terms::{CheckedTerms, needed_variables};
use crate::directory::DirectoryState;
use crate::policy::policy_in_force;

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

    fn push(&mut self, good: ComposedRow) {
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

/// A row that becomes a message.
struct ComposedRow {
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
        carriers: Vec::new(),
        filling_bytes_left: FILLING_BYTES_MAX,
    };
    let mut composed =
        Composed { lots: Vec::new(), messages: 0, refused: Vec::new(), duplicates: Vec::new() };
    // By what refusals bind: the spellings of an address are one person's.
    let mut seen: HashSet<SmolStr> = HashSet::with_capacity(request.recipients.len());
    for (place, row) in request.recipients.iter().enumerate() {
        if place > 0 && place % 500 == 0 {
            tokio::task::yield_now().await;
        }
        let (row, good) = match composer.row(row) {
            Ok(good) => good,
            Err(refused) => {
                composed.refused.push(refused);
                continue;
            }
        };
        if !request.allow_duplicates && !seen.insert(identity(row.to.as_str()).into()) {
            composed.duplicates.push(DuplicateRow { row: row.row, to: row.given.clone() });
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

/// The addresses of all rows that are good so far: in the form in which refusals are looked up.
pub(super) fn addresses(request: &SendRequest) -> impl Iterator<Item = &str> {
    let good = request.recipients.iter().filter_map(|row| match row {
        RecipientRow::Good(good) => Some(good),
        RecipientRow::Refused(_) => None,
    });
    good.flat_map(|good| {
        let email = good.email.as_ref().map(|email| email.as_str());
        std::iter::once(good.to.as_str()).chain(email)
    })
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
    /// Whether any relay could ever carry a type to a kind of number for this sender.
    carriers: Vec<(Carriage, Result<(), NoCarrier>)>,
    /// How much may still be filled in for this request.
    filling_bytes_left: usize,
}

/// What has to be carried: a type to a kind of number.
type Carriage = (MessageType, Option<PhoneKind>);

impl Composer<'_> {
    fn row<'r>(&mut self, row: &'r RecipientRow) -> Result<(&'r GoodRecipient, ComposedRow), RefusedRow> {
        let good = match row {
            RecipientRow::Good(good) => good,
            RecipientRow::Refused(refused) => return Err(refused.clone()),
        };
        let composed = self.message_to(good).map_err(|reason| RefusedRow {
            row: good.row,
            reason,
            to: good.given.clone(),
        })?;
        Ok((good, composed))
    }

    fn message_to(&mut self, row: &GoodRecipient) -> Result<ComposedRow, RowRefusal> {
        let lookup = |name: &str| {
            let own = row.variables.get(name).map(String::as_str);
            own.or_else(|| self.terms.content.variables.get(name).map(String::as_str))
        };
        let texts = self.terms.subject.iter().chain([&self.terms.text]);
        let filling_bytes: usize = texts.map(|text| text.filling_bytes(lookup)).sum();
        let left = self.filling_bytes_left.checked_sub(filling_bytes);
        self.filling_bytes_left = left.ok_or(RowRefusal::ValuesTooLarge)?;
        let resolved = resolve(&self.request, &row.to, self.terms.subject.as_ref(), &self.terms.text, lookup)
            .map_err(RowRefusal::Text)?;
        let reach = row.to.as_phone().map(|phone| phone.kind());
        self.check_sender(resolved.message_type)?;
        self.carrier(resolved.message_type, reach).map_err(RowRefusal::NoRelay)?;
        self.check_window(resolved.message_type)?;
        self.check_refusals(row)?;
        let recipient = Recipient {
            to: row.to.as_str().into(),
            email: row.email.as_ref().map(|email| email.as_str().into()),
            contact: row.contact,
            reference: row.reference.clone(),
            variables: needed_variables(&self.terms.text, self.terms.subject.as_ref(), &row.variables),
        };
        let bytes = size_of_recipient(&recipient);
        if bytes > LOT_RECIPIENTS_BYTES_MAX {
            return Err(RowRefusal::RowTooLarge { bytes });
        }
        Ok(ComposedRow { recipient, resolved, reach, bytes })
    }

    fn check_sender(&self, message_type: MessageType) -> Result<(), RowRefusal> {
        let sender = match message_type {
            MessageType::Email => &self.terms.from_email,
            MessageType::Sms | MessageType::Lms | MessageType::Mms | MessageType::Alimtalk => {
                &self.terms.from_phone
            }
        };
        match sender {
            Some(_) => Ok(()),
            None => Err(RowRefusal::SenderMissing { message_type }),
        }
    }

    /// What is held for the night must be worth something after it.
    fn check_window(&self, message_type: MessageType) -> Result<(), RowRefusal> {
        let held_until = self.terms.held_until.filter(|opens| self.terms.expires_at <= *opens);
        match held_until {
            Some(opens) if message_type != MessageType::Email => {
                Err(RowRefusal::LifetimeEndsInWindow { opens })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Who refused, by whichever address of theirs, gets no advertisement.
    fn check_refusals(&self, row: &GoodRecipient) -> Result<(), RowRefusal> {
        if self.class != MessageClass::Ad {
            return Ok(());
        }
        let email = row.email.as_ref().map(|email| (RowField::Email, email.as_str()));
        let mut addresses = std::iter::once((RowField::To, row.to.as_str())).chain(email);
        let refusal = addresses.find_map(|(field, text)| {
            let by = self.refusals.refused_by(text, &self.ad_brands)?;
            Some(RowRefusal::OptedOut { field, by })
        });
        refusal.map_or(Ok(()), Err)
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
