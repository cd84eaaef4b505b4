//! The tables of the address book.
//!
//! `heirs` says which contact the id of a merged contact stands for now. `search` is the text that searches look
//! into: name in lower case, number, e-mail address. `contact_numbers` has the next free number.
//!
//! `people` has the addresses of each contact, and those of contacts that were merged into it, by their identities.
//! `bonds` says that the refusal of `address` should apply to `other`, too; `is_told`: the log says so. No brand is
//! the empty text.

use crate::read_model::Upgrade;
use crate::table::{Index, Table, bytes, integer, text};

pub(super) const TABLES: &[&Table] = &[
    &CONTACTS,
    &CONTACT_COUNTS,
    &CONTACT_NUMBERS,
    &HEIRS,
    &TAGS,
    &GROUPS,
    &MEMBERS,
    &SENDERS,
    &OPT_OUTS,
    &PEOPLE,
    &BONDS,
    &TEMPLATES,
    &TENANTS,
];

/// In files of version 4 triggers count the contacts as they are written; now the fold counts them. A program that
/// relies on the triggers must not write a file without them, and has to see that from the version.
///
/// A file of version 4 may be without them already, so they are counted again in any case.
pub(super) const UPGRADE: Upgrade = Upgrade {
    from: 4,
    sql: "DROP TRIGGER IF EXISTS contact_added;
          DROP TRIGGER IF EXISTS contact_removed;
          INSERT OR IGNORE INTO contact_counts (tenant, contacts) SELECT DISTINCT tenant, 0 FROM contacts;
          UPDATE contact_counts
              SET contacts = (SELECT count(*) FROM contacts c WHERE c.tenant = contact_counts.tenant);",
};

pub(super) static CONTACTS: Table = Table::new(
    "contacts",
    &[
        text("tenant").key(),
        bytes("id").key(),
        integer("number"),
        text("name"),
        text("phone").or_none(),
        text("email").or_none(),
        text("tags"),
        text("fields"),
        text("search"),
        integer("created_ms"),
        integer("updated_ms"),
    ],
)
.indexed(&[
    Index::new("contacts_by_phone", &["tenant", "phone"]).only("phone IS NOT NULL").unique(),
    Index::new("contacts_by_email", &["tenant", "email"]).only("email IS NOT NULL").unique(),
]);

pub(super) static CONTACT_COUNTS: Table =
    Table::new("contact_counts", &[text("tenant").key(), integer("contacts").added()]);

pub(super) static CONTACT_NUMBERS: Table =
    Table::new("contact_numbers", &[integer("id").key(), integer("next")]).only_row(1);

pub(super) static HEIRS: Table =
    Table::new("heirs", &[text("tenant").key(), bytes("id").key(), bytes("heir")])
        .indexed(&[Index::new("heirs_by_heir", &["tenant", "heir"])]);

pub(super) static TAGS: Table =
    Table::new("tags", &[text("tenant").key(), text("tag").key(), bytes("contact").key()]);

pub(super) static GROUPS: Table = Table::new(
    "groups",
    &[bytes("id").key(), text("tenant"), text("name"), integer("members"), integer("created_ms")],
)
.indexed(&[Index::new("groups_by_tenant", &["tenant", "id"]).late()]);

pub(super) static MEMBERS: Table = Table::new("members", &[bytes("group_id").key(), bytes("contact").key()])
    .indexed(&[Index::new("members_by_contact", &["contact", "group_id"])]);

pub(super) static SENDERS: Table =
    Table::new("senders", &[text("tenant").key(), text("address").key(), text("identity")]);

pub(super) static OPT_OUTS: Table = Table::new(
    "opt_outs",
    &[
        text("tenant").key(),
        text("identity").key(),
        text("brand_identity").key(),
        text("address"),
        text("brand").or_none(),
        text("source"),
        integer("since_ms"),
        integer("refused_ms"),
    ],
);

pub(super) static PEOPLE: Table =
    Table::new("people", &[text("tenant").key(), text("address").key(), bytes("contact").key()])
        .indexed(&[Index::new("people_by_contact", &["tenant", "contact", "address"])]);

pub(super) static BONDS: Table = Table::new(
    "bonds",
    &[text("tenant").key(), text("address").key(), text("other").key(), integer("is_told")],
)
.indexed(&[
    Index::new("bonds_by_other", &["tenant", "other"]),
    Index::new("bonds_untold", &["tenant", "address", "other"]).only("is_told = 0").late(),
]);

pub(super) static TEMPLATES: Table = Table::new(
    "templates",
    &[
        text("tenant").key(),
        bytes("id").key(),
        text("name"),
        text("subject").or_none(),
        text("text"),
        integer("updated_ms"),
    ],
);

pub(super) static TENANTS: Table =
    Table::new("tenants", &[text("id").key(), text("name"), integer("created_ms")]);
