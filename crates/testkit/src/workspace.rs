//! The shape of the workspace, checked with `cargo metadata`: which crate may depend on which.
//!
//! Every check returns readable violations; an empty list means none.
//!
//! Deliberately absent: which crates, features, licences and registries are refused. That is in `deny.toml`, and
//! cargo-deny checks it (`cargo xtask test`).

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::path::Path;

use anyhow::Context;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Node, Package, PackageId};

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

    /// Packages from a directory outside this workspace. (cargo-deny looks only at registries and repositories.)
    #[must_use]
    pub fn from_elsewhere(&self) -> Vec<String> {
        let members = &self.metadata.workspace_members;
        self.metadata
            .packages
            .iter()
            .filter(|package| package.source.is_none() && !members.contains(&package.id))
            .map(|package| format!("{} {} is in {}", package.name, package.version, package.manifest_path))
            .collect()
    }
}
