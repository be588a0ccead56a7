//! The architecture as a test: the floor plan in ARCHITECTURE.md, held against src/.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/imports.rs"]
mod imports;

/// The only files with `unsafe` in them.
const UNSAFE_ROOMS: [&str; 7] = [
    "task_cell/cell.rs",
    "task_cell/counts.rs",
    "task_cell/header.rs",
    "task_cell/owner.rs",
    "reactor/registration.rs",
    "reactor/fork.rs",
    "reactor/platform.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of the plan, from the top down.
fn plan() -> Vec<String> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let start = text.find("```text\nsrc/\n").expect("the floor plan");
    let plan = &text[start + "```text\nsrc/\n".len()..];
    let plan = &plan[..plan.find("```").expect("its end")];
    let first_words = plan
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    first_words
        .filter(|word| word.ends_with(".rs"))
        .map(str::to_string)
        .collect()
}

/// All source files, relative to src/, with their text.
fn sources() -> BTreeMap<String, String> {
    fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let src = root().join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&src).unwrap().to_str().unwrap();
        (name.replace('\\', "/"), fs::read_to_string(&path).unwrap())
    };
    files.into_iter().map(read).collect()
}

/// The code, without comments and documentation.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn every_file_is_in_the_floor_plan() {
    let mut planned = plan();
    planned.sort();
    let files: Vec<String> = sources().into_keys().collect();
    assert_eq!(planned, files, "left: ARCHITECTURE.md, right: src/");
}

#[test]
fn imports_point_down_and_form_no_cycle() {
    let plan = plan();
    let edges = imports::edges(&sources());
    let found = imports::violations(&plan, &edges);
    let report: String = found.iter().map(|found| format!("\n{found}")).collect();
    assert!(found.is_empty(), "{report}");
}

#[test]
fn unsafe_code_is_in_its_two_rooms() {
    for (file, text) in sources() {
        let has = code(&text).any(|line| {
            let line = line.split("//").next().unwrap();
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            words.any(|word| word == "unsafe" || word == "allow_unsafe")
        });
        let allowed = UNSAFE_ROOMS.contains(&file.as_str());
        assert_eq!(has, allowed, "`unsafe` in src/{file}");
        let lifted = code(&text).any(|line| line.contains("unsafe_code"));
        assert_eq!(
            lifted, allowed,
            "the lint against unsafe code is lifted in src/{file}"
        );
    }
}

#[test]
fn each_use_of_unsafe_says_why() {
    for room in UNSAFE_ROOMS {
        let text = &sources()[room];
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let starts = line.trim_start();
            if starts.starts_with("//") || !starts.contains("unsafe ") {
                continue;
            }
            let before = lines[..number].iter().rev();
            let comment: Vec<&&str> = before
                .take_while(|line| !line.trim().is_empty() && !line.trim().ends_with('}'))
                .collect();
            assert!(
                // What a caller or an implementor has to see to is in the documentation.
                comment
                    .iter()
                    .any(|line| line.contains("SAFETY:") || line.contains("# Safety")),
                "src/{room}:{}: no SAFETY comment above: {line}",
                number + 1
            );
        }
    }
}

#[test]
fn nothing_is_printed_but_what_may_fail() {
    for (file, text) in sources() {
        // Tests in the sources may.
        let code = code(&text).take_while(|line| !line.starts_with("#[cfg(all(test"));
        let code = code.take_while(|line| !line.starts_with("#[cfg(test)]"));
        for line in code {
            // They panic if the stream is closed: `stderr.rs` does not.
            for name in ["print!(", "println!(", "eprint!(", "eprintln!(", "dbg!("] {
                let found = line.match_indices(name).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                });
                assert!(!found, "src/{file}: {line}");
            }
            let allowed = file == "stderr.rs" || !line.contains("io::stderr()");
            assert!(allowed, "src/{file}: use `stderr::write`: {line}");
        }
    }
}

#[test]
fn files_are_short_enough_to_read() {
    for (file, text) in sources() {
        let lines = code(&text).filter(|line| !line.trim().is_empty()).count();
        assert!(
            lines <= 520,
            "src/{file} has {lines} lines of code: split it"
        );
    }
}

#[test]
fn every_known_bug_has_a_test() {
    fn collect(dir: &Path, code: &mut String) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, code);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                code.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut code = String::new();
    collect(&root().join("tests"), &mut code);
    collect(&root().join("src"), &mut code);
    // Not part of the package.
    let ecosystem = root().join("ecosystem/tests");
    let has_ecosystem = ecosystem.exists();
    if has_ecosystem {
        collect(&ecosystem, &mut code);
    }
    let readme = fs::read_to_string(root().join("tests/README.md")).unwrap();
    let mut numbers = Vec::new();
    for row in readme.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        // The bugs: number, what went wrong, tests, mutant. The models: topic, tests.
        let cell = match (cells.len(), cells[0].parse::<usize>()) {
            (4, Ok(number)) => {
                numbers.push(number);
                assert!(cells[2].contains('`'), "no test: {row}");
                cells[2]
            }
            (2, _) => cells[1],
            _ => continue,
        };
        for test in cell.split('`').skip(1).step_by(2) {
            let found = code.contains(&format!("fn {test}("));
            assert!(
                found || !has_ecosystem,
                "tests/README.md names a test that is not there: {test}"
            );
        }
    }
    assert_eq!(numbers, Vec::from_iter(1..=121));
}

/// The last cell of each row, if it is code.
#[test]
fn every_line_of_the_tables_for_newcomers_is_compiled() {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (page, least) in [
        ("coming-from-asyncio", 50),
        ("from-tokio", 50),
        ("from-smol", 25),
    ] {
        let text = fs::read_to_string(root().join(format!("docs/{page}.md"))).unwrap();
        let (mut inside, mut compiled) = (false, String::new());
        for line in text.lines() {
            if line.starts_with("```") {
                inside = line == "```rust";
            } else if inside {
                compiled.push_str(line);
                compiled.push('\n');
            }
        }
        let compiled = squeeze(&compiled);
        let mut rows = 0;
        for row in text.lines().filter(|line| line.starts_with("| ")) {
            let row = row.replace("\\|", "\u{1}");
            let cell = row.trim_end_matches('|').rsplit('|').next().unwrap();
            let Some(code) = cell.trim().strip_prefix('`') else {
                continue;
            };
            let Some(code) = code.strip_suffix('`') else {
                continue;
            };
            let code = code.replace('\u{1}', "|");
            assert!(
                compiled.contains(&squeeze(&code)),
                "in no block of code of {page}: {code}"
            );
            rows += 1;
        }
        assert!(rows > least, "only {rows} rows were found in {page}");
    }
}

/// `name` (`file.rs`): the file exists, and contains the name.
#[test]
fn the_code_that_the_documentation_names_exists() {
    let sources = sources();
    let mut checked = 0;
    for document in ["ARCHITECTURE.md", "docs/a-wake-up.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        // Every second part is code, also around and inside of fenced blocks.
        let parts: Vec<&str> = text.split('`').collect();
        for (index, file) in parts.iter().enumerate().skip(2) {
            if parts[index - 1] != " (" || !file.ends_with(".rs") || !file.contains('/') {
                continue;
            }
            let file = file.strip_prefix("src/").unwrap_or(file);
            let code = sources.get(file);
            let code = code.unwrap_or_else(|| panic!("{document}: there is no src/{file}"));
            for name in parts[index - 2].split("::") {
                let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
                assert!(
                    words.any(|word| word == name),
                    "{document}: `{}` is not in src/{file}",
                    parts[index - 2]
                );
            }
            checked += 1;
        }
    }
    assert!(checked >= 20, "only {checked} names were found");
}

#[test]
fn the_pictures_in_the_documentation_are_those_in_the_files() {
    for (name, kind) in [("wake-up", "svg"), ("ten-pages", "png")] {
        let picture = fs::read(root().join(format!("docs/{name}.{kind}"))).unwrap();
        let link = fs::read_to_string(root().join(format!("docs/{name}.link"))).unwrap();
        let kind = kind.replace("svg", "svg+xml");
        let encoded = link
            .trim_end()
            .strip_prefix(&format!("[{name}]: data:image/{kind};base64,"))
            .unwrap();
        assert!(
            decode_base64(encoded) == picture,
            "encode the picture into docs/{name}.link anew"
        );
    }
}

/// The page of a repository follows the definitions at the end of the README, the documentation
/// those in src/lib.rs. Labels of links are the same in upper and lower case.
#[test]
fn the_links_of_the_readme_lead_somewhere_in_the_repository_and_in_the_documentation() {
    fn definitions(text: &str) -> Vec<(String, &str)> {
        let lines = text
            .lines()
            .filter_map(|line| line.trim_start_matches("//! ").strip_prefix('['));
        let parts = lines.filter_map(|line| line.split_once("]: "));
        parts
            .map(|(label, target)| (label.to_lowercase(), target))
            .collect()
    }
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let (readme, lib) = (read("README.md"), read("src/lib.rs"));
    let (here, there) = (definitions(&readme), definitions(&lib));
    for (number, (label, target)) in here.iter().enumerate() {
        assert!(root().join(target).exists(), "[{label}]: {target}");
        let twice = here[..number].iter().any(|(other, _)| other == label);
        assert!(!twice, "[{label}] is defined twice");
        let is_picture = lib.contains(&format!("../docs/{label}.link"));
        let defined = there.iter().any(|(other, _)| other == label);
        assert!(is_picture || defined, "[{label}] is not in src/lib.rs");
    }
    let prose = readme.split("```").step_by(2);
    for text in prose.flat_map(|part| part.split('[').skip(1)) {
        let (text, rest) = text.split_once(']').expect("the end of a link");
        let label = match rest.chars().next() {
            // What follows is the target, or the label.
            Some('(' | ':') | None => continue,
            _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        // In a line of code.
        if label.starts_with('"') {
            continue;
        }
        let defined = here.iter().any(|(other, _)| *other == label.to_lowercase());
        assert!(defined, "[{label}] has no definition in README.md");
    }
}

#[test]
fn every_suite_of_the_benchmarks_is_in_their_document() {
    let rows = fs::read_to_string(root().join("benches/src/rows.rs"));
    // Not part of the package.
    let Ok(rows) = rows else {
        return;
    };
    let start = rows.find("pub const SUITES").expect("the list of suites");
    let list = &rows[start..start + rows[start..].find("];").unwrap()];
    // Pairs of a name and a description.
    let names: Vec<&str> = list.split('"').skip(1).step_by(4).collect();
    assert_eq!(names.len(), 8, "{names:?}");
    let document = fs::read_to_string(root().join("docs/benchmarks.md")).unwrap();
    for name in names {
        assert!(
            document.contains(&format!("\n## {name}\n")),
            "no `{name}` in docs/benchmarks.md: run the suite, then --markdown --svg"
        );
    }
}

/// The files of the benchmarks' runner import each other without cycles.
#[test]
fn the_files_of_the_benchmarks_have_no_import_cycles() {
    let Ok(entries) = fs::read_dir(root().join("benches/src")) else {
        // Not part of the package.
        return;
    };
    let mut imports: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let code: String = code(&text).flat_map(|line| [line, "\n"]).collect();
        assert!(!code.contains("super::"), "{name}: use `crate::`");
        let mut files = Vec::new();
        for path in code.split("crate::").skip(1) {
            // The first names of the paths in `a::b`, or in `{a::{b, c}, d}`.
            let group = path.starts_with('{');
            let mut depth = 0;
            let mut first = String::new();
            for c in path.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => first.push(' '),
                    _ if depth <= usize::from(group) => first.push(c),
                    _ => {}
                }
                if depth == 0 && !c.is_alphanumeric() && !"_:".contains(c) {
                    break;
                }
            }
            for path in first.split_whitespace() {
                let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
                let file = &path[..end.unwrap_or(path.len())];
                files.push(file.to_string());
                if !group {
                    break;
                }
            }
        }
        imports.insert(name, files);
    }
    // Removes files all of whose imports have been removed. What is left is on a cycle, imports a
    // file on a cycle, or imports from main.rs.
    let mut left = imports.clone();
    left.remove("main");
    let mut before = usize::MAX;
    while left.len() < before {
        before = left.len();
        let names: Vec<String> = left.keys().cloned().collect();
        let is_left = |file: &String| names.contains(file) || !imports.contains_key(file);
        left.retain(|_, files| files.iter().any(is_left));
    }
    assert!(left.is_empty(), "import cycle in benches/src: {left:?}");
    assert!(imports.values().flatten().count() > 20, "{imports:?}");
}

fn decode_base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |byte: u8| {
        alphabet
            .iter()
            .position(|&known| known == byte)
            .map(|at| at as u32)
    };
    let mut bytes = Vec::new();
    for chunk in text.as_bytes().chunks(4) {
        let digits: Vec<u32> = chunk.iter().filter_map(|&byte| digit(byte)).collect();
        let value = digits.iter().fold(0, |value, digit| value << 6 | digit);
        let value = value << (6 * (4 - digits.len()));
        bytes.extend(&value.to_be_bytes()[1..digits.len()]);
    }
    bytes
}
