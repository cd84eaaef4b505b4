//! The shape of the workspace: who may depend on whom. What else may be in the tree is in `deny.toml`.
//!
//! A new edge is its own change, with an ADR in docs/adr/.

use std::path::{Path, PathBuf};

use kite_testkit::workspace::{Edges, Workspace};

/// Who may depend on whom. Simulation, testkit and xtask are for development: no crate's own code may depend on them.
const EDGES: &[Edges] = &[
    Edges { from: "kite-domain", to: &[], to_in_tests: TEST_TOOLS },
    Edges { from: "kite-postgres", to: &[], to_in_tests: &[] },
    Edges { from: "kite-event-store", to: &["kite-postgres"], to_in_tests: WITH_FAULTY_DISK },
    Edges {
        from: "kite-commands",
        to: &["kite-domain", "kite-event-store", "kite-postgres"],
        to_in_tests: TEST_TOOLS,
    },
    Edges {
        from: "kite-projections",
        to: &["kite-domain", "kite-event-store", "kite-postgres"],
        to_in_tests: WITH_FAULTY_DISK,
    },
    Edges { from: "kite-relay", to: &["kite-domain", "kite-commands"], to_in_tests: WITH_SIMULATOR },
    Edges { from: "kite-nats", to: &["kite-domain", "kite-commands", "kite-relay"], to_in_tests: TEST_TOOLS },
    Edges {
        from: "kite-api",
        to: &["kite-domain", "kite-commands", "kite-projections"],
        to_in_tests: WITH_SIMULATOR,
    },
    Edges {
        from: "kite-runtime",
        to: &["kite-domain", "kite-event-store", "kite-commands", "kite-projections", "kite-relay"],
        to_in_tests: TEST_TOOLS,
    },
    Edges { from: "kite-relay-sim", to: &[], to_in_tests: TEST_TOOLS },
    Edges {
        from: "kite",
        to: &[
            "kite-domain",
            "kite-nats",
            "kite-postgres",
            "kite-event-store",
            "kite-commands",
            "kite-projections",
            "kite-relay",
            "kite-runtime",
            "kite-api",
            "kite-relay-sim",
        ],
        to_in_tests: TEST_TOOLS,
    },
    Edges {
        from: "kite-fuzz-targets",
        to: &["kite-domain", "kite-commands", "kite-projections", "kite-relay", "kite-api", "kite"],
        to_in_tests: &[],
    },
    Edges {
        from: "kite-simulation",
        to: &[
            "kite-domain",
            "kite-event-store",
            "kite-commands",
            "kite-projections",
            "kite-relay",
            "kite-runtime",
            "kite-testkit",
        ],
        to_in_tests: &[],
    },
    Edges { from: "kite-testkit", to: &[], to_in_tests: &[] },
    Edges { from: "kite-faulty-disk", to: &[], to_in_tests: &[] },
    Edges { from: "xtask", to: &["kite-event-store", "kite-testkit"], to_in_tests: &[] },
];

const TEST_TOOLS: &[&str] = &["kite-testkit"];
/// Below SQLite, for those who keep what was acknowledged in it: what they promise is about disks that fail.
const WITH_FAULTY_DISK: &[&str] = &["kite-testkit", "kite-faulty-disk"];
const WITH_SIMULATOR: &[&str] = &["kite-testkit", "kite-relay-sim"];

/// What would give the domain a runtime, a disk or a network.
const NOT_PURE: &[&str] =
    &["tokio", "rusqlite", "reqwest", "hyper", "axum", "lettre", "mio", "socket2", "tempfile"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

fn workspace() -> Workspace {
    Workspace::read(&root()).expect("cargo metadata")
}

#[track_caller]
fn none(rule: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{rule}\n  {}", violations.join("\n  "));
}

#[test]
fn crates_depend_only_on_whom_the_design_lets_them() {
    let rule = "A crate of the workspace depends on another that the design does not let it depend on. If it has to, \
                change the table EDGES, and say why in docs/adr/.";
    none(rule, workspace().edge_violations(EDGES));
}

#[test]
fn an_edge_that_is_not_allowed_is_found() {
    let without_router: Vec<Edges> =
        EDGES
            .iter()
            .map(|edges| {
                if edges.from == "kite-commands" { Edges { to: &["kite-domain"], ..*edges } } else { *edges }
            })
            .filter(|edges| edges.from != "kite-relay-sim")
            .collect();
    let found = workspace().edge_violations(&without_router);
    assert!(found.contains(&"kite-commands depends on kite-event-store (normal)".to_owned()), "{found:?}");
    assert!(
        found.iter().any(|violation| violation.starts_with("crate kite-relay-sim is in the workspace")),
        "{found:?}"
    );
}

#[test]
fn the_domain_is_pure_all_the_way_down() {
    let workspace = workspace();
    for impure in NOT_PURE {
        let path = workspace.path("kite-domain", impure);
        assert!(
            path.is_none(),
            "the domain must not do I/O, but it comes to {impure}: {}",
            path.unwrap().join(" → ")
        );
    }
}

#[test]
fn a_way_to_a_crate_is_found_over_several_steps() {
    let path = workspace().path("kite-event-store", "libsqlite3-sys").unwrap();
    assert_eq!(path, ["kite-event-store", "rusqlite", "libsqlite3-sys"]);
}

#[test]
fn what_the_standard_library_has_is_taken_from_there() {
    let workspace = workspace();
    for (name, instead) in [
        ("lazy_static", "std::sync::LazyLock"),
        ("once_cell", "std::sync::{OnceLock, LazyLock}"),
        ("num_cpus", "std::thread::available_parallelism"),
        ("log", "tracing"),
    ] {
        none(&format!("use {instead} instead of {name}:"), workspace.direct_uses(name));
    }
}

#[test]
fn what_is_in_a_directory_is_of_the_workspace() {
    none("only registries and this workspace:", workspace().from_elsewhere());
}

/// The compiler denies `unsafe` code everywhere; a file that wants an exception has to name the lint.
#[test]
fn unsafe_code_is_in_the_faulty_disk_only() {
    let mut exceptions = Vec::new();
    for package in workspace().members() {
        let directory = package.manifest_path.parent().expect("a manifest is in a directory");
        rust_files(directory.as_std_path(), &mut |path| {
            let text = std::fs::read_to_string(path).expect("a source file can be read");
            if text.contains(concat!("(unsafe", "_code")) {
                exceptions.push(path.strip_prefix(root()).expect("it is in the workspace").to_owned());
            }
        });
    }
    exceptions.sort();
    let in_faulty_disk = ["system_calls.rs", "vfs.rs"];
    assert_eq!(exceptions, in_faulty_disk.map(|file| Path::new("crates/faulty-disk/src").join(file)));
}

fn rust_files(directory: &Path, look: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(directory).expect("a directory of a crate can be read") {
        let path = entry.expect("an entry can be read").path();
        match path.extension() {
            _ if path.is_dir() => rust_files(&path, look),
            Some(extension) if extension == "rs" => look(&path),
            _ => {}
        }
    }
}

#[test]
fn every_crate_takes_lints_licence_and_version_from_the_workspace() {
    for package in workspace().members() {
        let name = &package.name;
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{name}: [lints] workspace = true");
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            let inherited = manifest["package"].get(key).and_then(|value| value.get("workspace"));
            assert_eq!(
                inherited.and_then(toml::Value::as_bool),
                Some(true),
                "{name}: {key}.workspace = true"
            );
        }
    }
}
