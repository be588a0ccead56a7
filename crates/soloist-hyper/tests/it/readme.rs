//! The programs in the READMEs are the examples.

use std::fs;
use std::path::Path;

#[track_caller]
fn contains(readme: &str, example: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let example = fs::read_to_string(root.join("examples").join(example)).unwrap();
    let (_title, example) = example.split_once("\n\n").unwrap();
    let readme = fs::read_to_string(root.join(readme)).unwrap();
    assert!(readme.contains(&format!("\n{example}```\n")));
}

#[test]
fn the_readme_contains_the_examples() {
    contains("README.md", "serve.rs");
    contains("README.md", "fetch.rs");
}
