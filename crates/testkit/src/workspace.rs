//! The rules of the workspace, checked with `cargo metadata`: which crate may depend on which, and what may be in the
//! tree.
//!
//! Which crates, features and licences are refused is read from `deny.toml`, so that this and `cargo deny` can never
//! differ. Every check returns readable violations; an empty list means none.
//!
//! Deliberately absent: advisories, which need the network.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::Path;

use anyhow::Context;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Node, Package, PackageId};
use serde::Deserialize;
use spdx::{Expression, ParseMode};

/// The dependency graph as cargo resolves it for this machine.
pub struct Workspace {
    metadata: Metadata,
    packages: HashMap<PackageId, usize>,
    nodes: HashMap<PackageId, usize>,
}

/// Which crates of the workspace a crate may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Edges {
    /// The crate.
    pub from: &'static str,
    /// What it may depend on.
    pub to: &'static [&'static str],
    /// What only its tests may depend on, beside these.
    pub to_in_tests: &'static [&'static str],
}

/// The content of `deny.toml`, as far as it is checked here.
#[derive(Debug, Deserialize)]
pub struct Rules {
    /// Crates and features.
    pub bans: Bans,
    /// Licences.
    pub licenses: Licences,
}

/// Refused crates and features.
#[derive(Debug, Deserialize)]
pub struct Bans {
    /// Refused crates, and crates of which there may be only one version.
    pub deny: Vec<Ban>,
    /// Refused features.
    pub features: Vec<FeatureBan>,
}

/// A refused crate.
#[derive(Debug, Deserialize)]
pub struct Ban {
    /// Its name.
    pub name: String,
    /// Why, and what to use instead.
    pub reason: String,
    /// The crate is welcome, but in one version only.
    #[serde(rename = "deny-multiple-versions", default)]
    pub only_one_version: bool,
}

/// A crate that is allowed without some of its features.
#[derive(Debug, Deserialize)]
pub struct FeatureBan {
    /// The crate.
    pub name: String,
    /// The features.
    pub deny: Vec<String>,
    /// Why.
    pub reason: String,
}

/// Allowed licences.
#[derive(Debug, Deserialize)]
pub struct Licences {
    /// SPDX identifiers, some `WITH` an exception.
    pub allow: Vec<String>,
}

impl Rules {
    /// Reads `deny.toml`.
    ///
    /// # Errors
    /// When the file is not there or a key is missing.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not understood", path.display()))
    }
}

impl Workspace {
    /// Asks cargo, without changing `Cargo.lock`.
    ///
    /// # Errors
    /// When cargo refuses, as it does when the lock file is not current.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), platform])
            .exec()
            .context("cargo metadata")?;
        let packages =
            metadata.packages.iter().enumerate().map(|(at, package)| (package.id.clone(), at)).collect();
        let resolve = metadata.resolve.as_ref().context("cargo metadata without a resolved graph")?;
        let nodes = resolve.nodes.iter().enumerate().map(|(at, node)| (node.id.clone(), at)).collect();
        Ok(Self { packages, nodes, metadata })
    }

    /// The crates of the workspace.
    #[must_use]
    pub fn members(&self) -> Vec<&Package> {
        self.metadata.workspace_packages()
    }

    fn package(&self, id: &PackageId) -> &Package {
        &self.metadata.packages[self.packages[id]]
    }

    fn node(&self, id: &PackageId) -> &Node {
        let resolve = self.metadata.resolve.as_ref().expect("checked when it was read");
        &resolve.nodes[self.nodes[id]]
    }

    /// Every package that is really in the graph.
    fn resolved(&self) -> impl Iterator<Item = (&Package, &Node)> {
        self.nodes.keys().map(|id| (self.package(id), self.node(id)))
    }

    /// Dependencies between members that `edges` does not allow, members that it does not know, and edges that it
    /// allows to crates that are not there.
    #[must_use]
    pub fn edge_violations(&self, edges: &[Edges]) -> Vec<String> {
        let members = self.members();
        let names: BTreeSet<&str> = members.iter().map(|package| package.name.as_str()).collect();
        let mut violations = Vec::new();
        for package in &members {
            let Some(allowed) = edges.iter().find(|edges| edges.from == package.name.as_str()) else {
                violations.push(format!(
                    "crate {} is in the workspace but not in the table of edges",
                    package.name
                ));
                continue;
            };
            for dependency in package.dependencies.iter().filter(|to| names.contains(to.name.as_str())) {
                let to = dependency.name.as_str();
                let in_tests =
                    dependency.kind == DependencyKind::Development && allowed.to_in_tests.contains(&to);
                if !allowed.to.contains(&to) && !in_tests {
                    violations.push(format!("{} depends on {to} ({})", package.name, dependency.kind));
                }
            }
        }
        let known =
            edges.iter().flat_map(|edges| edges.to.iter().chain(edges.to_in_tests).chain([&edges.from]));
        violations.extend(
            known
                .filter(|name| !names.contains(**name))
                .map(|name| format!("the table names {name}, which is no crate")),
        );
        violations
    }

    /// The shortest way along which a member's own code (not its tests) comes to depend on a crate, from the member
    /// to the crate; `None`: it does not.
    #[must_use]
    pub fn path(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let start = self.members().into_iter().find(|package| package.name.as_str() == from)?.id.clone();
        let mut came_from: HashMap<PackageId, PackageId> = HashMap::new();
        let mut seen: HashSet<PackageId> = HashSet::from([start.clone()]);
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            if self.package(&at).name.as_str() == to {
                let mut path = vec![self.package(&at).name.to_string()];
                let mut step = &at;
                while let Some(earlier) = came_from.get(step) {
                    path.push(self.package(earlier).name.to_string());
                    step = earlier;
                }
                path.reverse();
                return Some(path);
            }
            for next in &self.node(&at).deps {
                let is_own = next.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development);
                if is_own && seen.insert(next.pkg.clone()) {
                    came_from.insert(next.pkg.clone(), at.clone());
                    queue.push_back(next.pkg.clone());
                }
            }
        }
        None
    }

    /// Crates that the rules refuse, and crates in several versions of which there may be only one.
    #[must_use]
    pub fn banned_crates(&self, rules: &Rules) -> Vec<String> {
        let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (package, _) in self.resolved() {
            versions.entry(package.name.as_str()).or_default().insert(package.version.to_string());
        }
        let mut violations = Vec::new();
        for ban in &rules.bans.deny {
            let found = versions.get(ban.name.as_str());
            let found: Vec<&str> = found.into_iter().flatten().map(String::as_str).collect();
            if found.len() > usize::from(ban.only_one_version) {
                violations.push(format!("{} {}: {}", ban.name, found.join(" and "), ban.reason));
            }
        }
        violations
    }

    /// Features that the rules refuse.
    #[must_use]
    pub fn banned_features(&self, rules: &Rules) -> Vec<String> {
        let mut violations = Vec::new();
        for ban in &rules.bans.features {
            for (package, node) in self.resolved().filter(|(package, _)| package.name.as_str() == ban.name) {
                let refused = node.features.iter().filter(|feature| ban.deny.contains(&feature.to_string()));
                violations.extend(refused.map(|feature| {
                    format!("{} {} has feature {feature}: {}", package.name, package.version, ban.reason)
                }));
            }
        }
        violations
    }

    /// Members that name this crate themselves, although they should not.
    #[must_use]
    pub fn direct_uses(&self, name: &str) -> Vec<String> {
        let uses =
            |package: &&&Package| package.dependencies.iter().any(|dependency| dependency.name == name);
        self.members()
            .iter()
            .filter(uses)
            .map(|package| format!("{} depends on {name} itself", package.name))
            .collect()
    }

    /// Packages whose licence the rules do not allow, or that name none.
    ///
    /// # Errors
    /// When the rules name a licence that does not exist.
    pub fn licence_violations(&self, rules: &Rules) -> anyhow::Result<Vec<String>> {
        let mut allowed = Vec::new();
        for licence in &rules.licenses.allow {
            allowed.push(
                spdx::Licensee::parse(licence).with_context(|| format!("{licence:?} is no SPDX licence"))?,
            );
        }
        let mut violations = Vec::new();
        for (package, _) in self.resolved() {
            let named = package.license.as_deref().unwrap_or_default();
            let expression = Expression::parse_mode(named, ParseMode::LAX);
            let is_allowed = expression.is_ok_and(|expression| {
                expression.evaluate(|wanted| allowed.iter().any(|licensee| licensee.satisfies(wanted)))
            });
            if !is_allowed {
                violations.push(format!("{} {} is under {named:?}", package.name, package.version));
            }
        }
        violations.sort();
        Ok(violations)
    }

    /// Packages that come from elsewhere than the registry or this workspace.
    #[must_use]
    pub fn foreign_sources(&self) -> Vec<String> {
        let mut violations = Vec::new();
        for (package, _) in self.resolved() {
            let is_known = match &package.source {
                Some(source) => source.is_crates_io(),
                None => self.metadata.workspace_members.contains(&package.id),
            };
            if !is_known {
                violations
                    .push(format!("{} {} comes from {:?}", package.name, package.version, package.source));
            }
        }
        violations
    }
}
