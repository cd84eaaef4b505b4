//! Every link in a document leads somewhere, and every file that a document names is there.
//!
//! Deliberately absent: addresses outside the project, which would need the network.

use std::path::{Path, PathBuf};

/// Folders that hold no document of ours, or copies of them.
const PASSED_OVER: [&str; 4] = [".git", "target", "node_modules", "mutants.out"];
/// What a path in a document may be below, beside the document itself and the project.
const BASES: [&str; 4] = ["", "crates", "crates/simulation/src", "docs"];
/// A name in backticks is a path of the project if it begins with one of these.
const FOLDERS: [&str; 7] = ["docs/", "crates/", "infra/", "fuzz/", "xtask/", ".ci/", ".cargo/"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every Markdown file of the project, with its path from the root.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(root().join(&folder)).expect("a folder of the project");
        for entry in entries.map(|entry| entry.expect("an entry of a folder")) {
            let name = entry.file_name().into_string().expect("a name in UTF-8");
            let path = folder.join(&name);
            let is_passed_over = PASSED_OVER.contains(&name.as_str());
            if !is_passed_over && entry.file_type().expect("the type of an entry").is_dir() {
                folders.push(path);
            } else if name.ends_with(".md") {
                let text = std::fs::read_to_string(root().join(&path)).expect("a document in UTF-8");
                found.push((path, text));
            }
        }
    }
    found
}

/// The lines of a document that are no code, with their numbers from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().zip(1..).filter_map(move |(line, number)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((number, line))
    })
}

/// What stands between two texts, as often as it does.
fn between<'a>(line: &'a str, open: &str, close: char) -> Vec<&'a str> {
    line.split(open).skip(1).filter_map(|rest| rest.split_once(close)).map(|(inside, _)| inside).collect()
}

/// The text in backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The anchor that a heading gets: lower case, blanks as hyphens, no other punctuation.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn has_anchor(text: &str, wanted: &str) -> bool {
    prose(text).any(|(_, line)| line.starts_with('#') && anchor(line) == wanted)
}

/// Whether a link leads to a file or folder of the project and, where it names one, to a heading in it.
fn leads_somewhere(document: &Path, text: &str, target: &str) -> bool {
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    if path.is_empty() {
        return has_anchor(text, heading);
    }
    let path = root().join(document.parent().expect("a document is in a folder")).join(path);
    if heading.is_empty() {
        return path.exists();
    }
    std::fs::read_to_string(path).is_ok_and(|text| has_anchor(&text, heading))
}

/// Whether a name in backticks is meant as a file or folder of the project, without anything left to fill in: one below a
/// folder of the project, or source code below a crate.
fn is_path(name: &str) -> bool {
    let is_source = name.ends_with(".rs") || name.ends_with('/');
    let is_of_crate = || name.split_once('/').is_some_and(|(first, _)| crate_folder(first).is_dir());
    (FOLDERS.iter().any(|folder| name.starts_with(folder)) || is_source && is_of_crate())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter))
}

fn crate_folder(name: &str) -> PathBuf {
    root().join("crates").join(name)
}

/// Whether there is such a file or folder. The source code of a crate may be named without `src`.
fn is_there(name: &str) -> bool {
    let in_sources = |(first, rest): (&str, &str)| crate_folder(first).join("src").join(rest).exists();
    BASES.iter().any(|base| root().join(base).join(name).exists())
        || name.split_once('/').is_some_and(in_sources)
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() > 40, "only {} documents were found", documents.len());
    let mut broken = Vec::new();
    for (document, text) in &documents {
        for (number, line) in prose(text) {
            let targets = between(line, "](", ')').into_iter();
            let ours = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
            let lost = ours.filter(|target| !leads_somewhere(document, text, target));
            broken.extend(lost.map(|target| format!("{}:{number}: {target}", document.display())));
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let mut missing = Vec::new();
    for (document, text) in &documents() {
        for (number, line) in prose(text) {
            for name in quoted(line).filter(|name| is_path(name)) {
                if !is_there(name) {
                    missing.push(format!("{}:{number}: {name}", document.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "documents name files that are not there:\n{}", missing.join("\n"));
}

#[test]
fn a_file_of_a_crate_is_found_with_and_without_its_folder_of_sources() {
    for there in ["domain/src/ids.rs", "domain/ids.rs", "relay/worker/", "docs/adr/"] {
        assert!(is_path(there) && is_there(there), "{there}");
    }
    assert!(is_path("domain/src/no_such.rs") && !is_there("domain/src/no_such.rs"));
    assert!(!is_path("api/v1"), "an address is no file");
}

#[test]
fn an_anchor_is_made_from_its_heading() {
    assert_eq!(anchor("## Deliberate bugs: `--mutations`"), "deliberate-bugs---mutations");
    assert!(has_anchor("text\n# The soak\n", "the-soak"));
    assert!(!has_anchor("```\n# not a heading\n```\n", "not-a-heading"));
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let document = Path::new("docs/laws.md");
    assert!(leads_somewhere(document, "", "../README.md#test-it"));
    assert!(!leads_somewhere(document, "", "../README.md#no-such-heading"));
    assert!(!leads_somewhere(document, "", "no-such-page.md"));
}
