#![allow(warnings)]
pub(crate) mod docs_page;
pub(crate) mod html;

#[test]
fn tmp_same_page() {
    let old = docs_page::page();
    let new = crate::docs_page::page();
    std::fs::write("/tmp/o/docs-old.html", &old).unwrap();
    std::fs::write("/tmp/o/docs-new.html", &new).unwrap();
    let problems = crate::problem::pages::list();
    let _ = problems;
    assert_eq!(old.replace("<!doctype html>", "<!DOCTYPE html>").replace("&#39;", "'"), new);
}
