//! Which source file refers to which other one, read from the text of the sources.
//!
//! This is no compiler. It sees `mod`, `use` and paths, and resolves them as Rust does in the
//! common cases: re-exports lead to the file that defines the name, names of other crates lead
//! nowhere. It does not see methods, types that are not named, and what macros expand to.

use std::collections::{BTreeMap, BTreeSet};
use std::{fmt, ptr, slice};

/// A reference from one file to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: String,
    pub(super) to: String,
    /// Where `from` first names something of `to`.
    pub(super) line: usize,
}

/// A module as a path from the crate root, which is the empty path.
type Module = Vec<String>;

struct Use {
    /// The name that the import binds. `None` for a glob.
    name: Option<String>,
    path: Vec<String>,
    line: usize,
    is_public: bool,
}

/// A path in the code, outside of `use`.
struct Mention {
    module: Module,
    path: Vec<String>,
    line: usize,
}

#[derive(Default)]
struct Sources {
    /// The file of each module. Inline modules have the file that they are in.
    files: BTreeMap<Module, String>,
    uses: BTreeMap<Module, Vec<Use>>,
    /// The names that each module defines.
    items: BTreeSet<(Module, String)>,
    mentions: Vec<Mention>,
}

/// All edges between `files`, the first of each pair. The names of files are relative to src/.
///
/// A re-export (`pub use`, `pub(crate) use`) is no edge, unless its file uses the name itself.
/// `lib.rs` has no edges of its own.
pub(super) fn edges(files: &BTreeMap<String, String>) -> Vec<Edge> {
    let mut sources = Sources::default();
    for (file, text) in files {
        sources.read(file, text);
    }
    let mut edges: Vec<Edge> = Vec::new();
    let mut add = |module: &Module, targets: BTreeSet<String>, line: usize| {
        let from = &sources.files[module];
        for to in targets.into_iter().filter(|to| to != from) {
            match edges.iter_mut().find(|e| e.from == *from && e.to == to) {
                _ if from == "lib.rs" => {}
                Some(edge) => edge.line = edge.line.min(line),
                None => edges.push(Edge {
                    from: from.clone(),
                    to,
                    line,
                }),
            }
        }
    };
    for (module, uses) in &sources.uses {
        for import in uses.iter().filter(|import| !import.is_public) {
            add(module, sources.resolve(module, &import.path), import.line);
        }
    }
    for mention in &sources.mentions {
        let targets = sources.resolve(&mention.module, &mention.path);
        add(&mention.module, targets, mention.line);
    }
    edges.sort_by(|a, b| (&a.from, a.line).cmp(&(&b.from, b.line)));
    edges
}

/// An edge that breaks a rule.
pub(super) struct Violation<'a> {
    pub(super) edge: &'a Edge,
    /// The edges that lead back from the end of `edge`, if the rule is about cycles.
    back: Vec<&'a Edge>,
}

impl fmt::Display for Violation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Edge { from, to, line } = self.edge;
        write!(f, "src/{from}:{line}: {from} -> {to} ")?;
        if self.back.is_empty() {
            return f.write_str("points up in the floor plan");
        }
        f.write_str("is part of a cycle:")?;
        for Edge { from, to, line } in &self.back {
            write!(f, " src/{from}:{line}: {from} -> {to}")?;
        }
        Ok(())
    }
}

/// The edges that break the rules. An edge leads to a file further down in `plan`, or to a file of
/// an enclosing module, and edges form no cycle.
pub(super) fn violations<'a>(plan: &[String], edges: &'a [Edge]) -> Vec<Violation<'a>> {
    let floor = |file: &str| plan.iter().position(|planned| planned == file);
    let mut found = Vec::new();
    for edge in edges.iter().filter(|e| floor(&e.from) >= floor(&e.to)) {
        let is_enclosing = module_of(&edge.from).starts_with(&module_of(&edge.to));
        // All other edges point down, so a cycle contains an edge to an enclosing module.
        match path(edges, &edge.to, &edge.from) {
            Some(back) if is_enclosing => found.push(Violation { edge, back }),
            None if is_enclosing => {}
            _ => found.push(Violation {
                edge,
                back: Vec::new(),
            }),
        }
    }
    found
}

/// The shortest path from one file to another.
fn path<'a>(edges: &'a [Edge], from: &str, to: &str) -> Option<Vec<&'a Edge>> {
    let mut paths = vec![Vec::new()];
    let mut seen = BTreeSet::from([from]);
    while !paths.is_empty() {
        let mut longer = Vec::new();
        for path in paths {
            let end = path.last().map_or(from, |edge: &&Edge| &edge.to);
            for edge in edges.iter().filter(|edge| edge.from == end) {
                let path = [&path[..], &[edge]].concat();
                if edge.to == to {
                    return Some(path);
                }
                if seen.insert(&edge.to) {
                    longer.push(path);
                }
            }
        }
        paths = longer;
    }
    None
}

/// The module of a file: `net/tcp.rs` and `net/tcp/mod.rs` are `net::tcp`, `lib.rs` is the root.
fn module_of(file: &str) -> Module {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    let path = if path == "lib" { "" } else { path };
    let names = path.split('/').filter(|name| !name.is_empty());
    names.map(str::to_string).collect()
}

impl Sources {
    fn read(&mut self, file: &str, text: &str) {
        let tokens = tokens(text);
        let word = |at: usize| tokens.get(at).map_or("", |&(token, _)| token);
        let mut module = module_of(file);
        self.files.insert(module.clone(), file.to_string());
        // The depths of braces at which inline modules begin.
        let (mut depth, mut inline) = (0, Vec::new());
        let mut is_public = false;
        let mut at = 0;
        while at < tokens.len() {
            let (token, line) = tokens[at];
            at += 1;
            match token {
                // `cfg(unix)` does not name the module `unix`.
                "#" if word(at) == "[" || word(at) == "!" => {
                    let mut open = 0;
                    loop {
                        open += usize::from(word(at) == "[");
                        open -= usize::from(word(at) == "]");
                        at += 1;
                        if open == 0 && word(at - 1) != "!" {
                            break;
                        }
                    }
                }
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if inline.last() == Some(&depth) {
                        inline.pop();
                        module.pop();
                    }
                }
                "pub" => {
                    // `pub(in path)` is no use of the path.
                    if word(at) == "(" && ["crate", "super", "self", "in"].contains(&word(at + 1)) {
                        while word(at) != ")" {
                            at += 1;
                        }
                        at += 1;
                    }
                    is_public = true;
                    continue;
                }
                "mod" if word(at + 1) == "{" => {
                    module.push(word(at).to_string());
                    self.files.insert(module.clone(), file.to_string());
                    inline.push(depth);
                    depth += 1;
                    at += 2;
                }
                // The file is found by its name.
                "mod" => at += 1,
                "use" => {
                    let uses = self.uses.entry(module.clone()).or_default();
                    at = use_tree(&tokens, at, Vec::new(), is_public, uses);
                }
                "macro_rules" => {
                    self.items
                        .insert((module.clone(), word(at + 1).to_string()));
                    at += 2;
                }
                "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static"
                    if is_name(word(at)) && !["fn", "unsafe", "mut"].contains(&word(at)) =>
                {
                    self.items.insert((module.clone(), word(at).to_string()));
                    at += 1;
                }
                // Fields, methods, and the rest of a path; macros resolve theirs where they are used.
                "." | "::" | "$" => at += usize::from(is_name(word(at))),
                _ if is_name(token) => {
                    let mut path = vec![token.to_string()];
                    while word(at) == "::" && is_name(word(at + 1)) {
                        path.push(word(at + 1).to_string());
                        at += 2;
                    }
                    let module = module.clone();
                    self.mentions.push(Mention { module, path, line });
                }
                _ => {}
            }
            is_public = false;
        }
    }

    /// The files that define what `path` stands for in `module`: none for other crates, several
    /// where `cfg` selects one.
    fn resolve(&self, module: &[String], path: &[String]) -> BTreeSet<String> {
        let (start, rest) = start(module, path);
        match self.find(start, rest, &mut Vec::new()) {
            Some(files) => files,
            None if rest.len() == path.len() => BTreeSet::new(),
            // An item that was not recognized, in the last module that the path names.
            None => {
                let path = [start, rest].concat();
                let mut modules = (0..=path.len()).rev().map(|end| &path[..end]);
                modules
                    .find_map(|module| self.files.get(module))
                    .cloned()
                    .into_iter()
                    .collect()
            }
        }
    }

    /// Like `resolve`, for a path that starts in `module`. `None` if there is no such name.
    ///
    /// No import in `followed` is followed again.
    fn find<'a>(
        &'a self,
        module: &[String],
        path: &[String],
        followed: &mut Vec<&'a Use>,
    ) -> Option<BTreeSet<String>> {
        let file = self.files.get(module)?;
        let Some(name) = path.first() else {
            return Some(BTreeSet::from([file.clone()]));
        };
        let mut found = Vec::new();
        if self.items.contains(&(module.to_vec(), name.clone())) {
            found.push(BTreeSet::from([file.clone()]));
        }
        let child = [module, slice::from_ref(name)].concat();
        if self.files.contains_key(&child) {
            found.extend(self.find(&child, &path[1..], followed));
        }
        for import in self.uses.get(module).into_iter().flatten() {
            let target = match &import.name {
                Some(bound) if bound == name => [&import.path, &path[1..]].concat(),
                None => [&import.path, path].concat(),
                _ => continue,
            };
            if followed.iter().any(|&other| ptr::eq(other, import)) {
                continue;
            }
            followed.push(import);
            let (start, rest) = start(module, &target);
            match self.find(start, rest, followed) {
                Some(files) => found.push(files),
                // The name is of another crate.
                None if import.name.is_some() => found.push(BTreeSet::new()),
                None => {}
            }
        }
        let any = !found.is_empty();
        any.then(|| found.into_iter().flatten().collect())
    }
}

/// The module in which `path` starts, seen from `module`, and the rest of the path.
fn start<'a>(module: &'a [String], path: &'a [String]) -> (&'a [String], &'a [String]) {
    match path[0].as_str() {
        "crate" => (&[], &path[1..]),
        "self" => (module, &path[1..]),
        "super" => {
            let ups = path.iter().take_while(|name| *name == "super").count();
            (&module[..module.len().saturating_sub(ups)], &path[ups..])
        }
        _ => (module, path),
    }
}

/// Reads one tree after `use`, or within the braces of another tree. Returns the place behind it:
/// of the `,`, `;` or `}` that ends it.
fn use_tree(
    tokens: &[(&str, usize)],
    mut at: usize,
    mut path: Vec<String>,
    is_public: bool,
    uses: &mut Vec<Use>,
) -> usize {
    let line = tokens[at].1;
    let mut name = None;
    loop {
        match tokens[at].0 {
            "::" => {}
            "{" => {
                while tokens[at].0 != "}" {
                    at += 1;
                    if tokens[at].0 != "}" {
                        at = use_tree(tokens, at, path.clone(), is_public, uses);
                    }
                }
                return at + 1;
            }
            "*" => {
                let name = None;
                uses.push(Use {
                    name,
                    path,
                    line,
                    is_public,
                });
                return at + 1;
            }
            "as" => {
                name = Some(tokens[at + 1].0.to_string());
                at += 1;
            }
            "," | ";" | "}" => {
                if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                    path.pop();
                }
                let name = name.or_else(|| path.last().cloned());
                uses.push(Use {
                    name,
                    path,
                    line,
                    is_public,
                });
                return at;
            }
            word => path.push(word.to_string()),
        }
        at += 1;
    }
}

fn is_name(token: &str) -> bool {
    token != "_" && token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::` and single characters, with their lines. Comments, strings and lifetimes are left
/// out.
fn tokens(text: &str) -> Vec<(&str, usize)> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let raw = rest.trim_start_matches(['b', 'c']).strip_prefix('r');
        let hashes = raw.map_or(0, |raw| raw.len() - raw.trim_start_matches('#').len());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if raw.is_some_and(|raw| raw[hashes..].starts_with('"')) {
            let open = rest.find('"').unwrap() + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            open + rest[open..].find(&close).unwrap() + close.len()
        } else if first == '"' {
            string(rest)
        } else if first == '\'' {
            character_or_lifetime(rest)
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push((&rest[..length], line));
            length
        } else if rest.starts_with("::") {
            tokens.push(("::", line));
            2
        } else {
            if !first.is_whitespace() {
                tokens.push((&rest[..first.len_utf8()], line));
            }
            first.len_utf8()
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The length of the block comment at the start of `text`. Block comments nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    loop {
        let open = text[at..].starts_with("/*");
        let close = text[at..].starts_with("*/");
        depth += usize::from(open);
        depth -= usize::from(close);
        at += if open || close {
            2
        } else {
            text[at..].chars().next().unwrap().len_utf8()
        };
        if depth == 0 {
            return at;
        }
    }
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == '"' && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

fn character_or_lifetime(text: &str) -> usize {
    let mut inside = text[1..].chars();
    match inside.next() {
        Some('\\') => 3 + text[3..].find('\'').unwrap() + 1,
        Some(c) if inside.next() == Some('\'') => c.len_utf8() + 2,
        _ => {
            1 + text[1..]
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap()
        }
    }
}

/// The violations in made-up files, which are given in the order of their floor plan.
fn check(files: &[(&str, &str)]) -> Vec<String> {
    let owned = |&(name, text): &(&str, &str)| (name.to_string(), text.to_string());
    let plan: Vec<String> = files.iter().map(|(name, _)| name.to_string()).collect();
    let edges = edges(&files.iter().map(owned).collect());
    let found = violations(&plan, &edges);
    found
        .iter()
        .map(|violation| violation.to_string())
        .collect()
}

#[test]
fn imports_that_point_down_are_fine() {
    let found = check(&[
        ("lib.rs", "mod a; mod b; mod c; pub use a::A;"),
        (
            "a.rs",
            "use crate::b::{self, inner::B, C}; fn a(_: b::C) { crate::c::c() }",
        ),
        (
            "b.rs",
            "pub mod inner { use super::*; pub struct B; }\npub use crate::c::C;",
        ),
        ("c.rs", "use std::io; pub struct C; pub fn c() {}"),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn imports_that_point_up_are_found() {
    for line in [
        "use crate::a::a;",
        "use crate::a::{inner::{A}};",
        "use {std::io, super::a::a as b};",
        "use crate::a::*;",
        "fn b() { crate::a::a() }",
        "impl From<crate::a::inner::A> for u8 {}",
        "macro_rules! b { () => { crate::a::a() } }",
        "mod tests { use super::super::a::a; }",
        // Through a re-export.
        "use crate::c::a;",
        "use crate::reexported as b;",
        "fn b() { super::c::a() }",
        "use crate::c; fn b() { c::a() }",
        "use crate::c::*; fn b() { a() }",
        "pub use crate::a::a; fn b() { a() }",
    ] {
        let found = check(&[
            ("lib.rs", "pub use a::a as reexported;"),
            ("a.rs", "pub mod inner { pub struct A; }\npub fn a() {}"),
            ("b.rs", &format!("//! b\n{line}")),
            ("c.rs", "pub use crate::a::a;"),
        ]);
        let expected = "src/b.rs:2: b.rs -> a.rs points up in the floor plan";
        assert_eq!(found, [expected], "{line}");
    }
}

#[test]
fn what_is_no_path_of_the_code_is_no_import() {
    for line in [
        "// crate::a::a()",
        "/* /* */ crate::a::a() */",
        r#"const B: &str = "\"crate::a::a()";"#,
        r##"const B: &str = r#""crate::a::a()"#;"##,
        "const B: [char; 2] = ['\"', '\\'']; const C: &'static str = \"crate::a::a\";",
        "macro_rules! b { () => { $crate::a::a() } }",
        "#[cfg(a)] pub(in crate::a) fn b(b: B) { b.a(); B::a() }",
        "use crate::b::a; pub fn a() {}",
        "fn b() { std::a::a() }",
        "pub use crate::a::a;",
    ] {
        let found = check(&[("lib.rs", ""), ("a.rs", "pub fn a() {}"), ("b.rs", line)]);
        assert_eq!(found, [""; 0], "{line}");
    }
}

#[test]
fn a_module_may_use_its_children_or_they_it() {
    let uses_parent = "use super::{A, Sibling}; fn a(_: A) {}";
    for (parent, child) in [
        ("mod b; struct A; use self::b::B;", "pub(super) struct B;"),
        ("mod b; struct A; fn a() { b::b() }", "pub(super) fn b() {}"),
        ("mod b; struct A; pub use self::b::B;", uses_parent),
        ("mod b; struct A; pub(crate) use b::*;", uses_parent),
    ] {
        for name in ["a.rs", "a/mod.rs"] {
            let found = check(&[("lib.rs", "mod a;"), (name, parent), ("a/b.rs", child)]);
            assert_eq!(found, [""; 0], "{parent}");
        }
    }
}

#[test]
fn cycles_are_found() {
    let uses_parent = "use super::A;\npub struct B;";
    for parent in [
        "mod b; pub struct A; use self::b::B;",
        "mod b; pub struct A(b::B);",
        "mod b; pub struct A(B); pub use self::b::B;",
        "mod b; pub struct A(B); pub(crate) use b::*;",
    ] {
        let found = check(&[("lib.rs", ""), ("a.rs", parent), ("a/b.rs", uses_parent)]);
        let cycle = "src/a/b.rs:1: a/b.rs -> a.rs is part of a cycle: src/a.rs:1: a.rs -> a/b.rs";
        assert_eq!(found, [cycle], "{parent}");
    }
    // Over another file.
    let found = check(&[
        ("lib.rs", ""),
        ("a.rs", "mod b; pub struct A;\nuse crate::c::C;"),
        ("a/b.rs", "use super::A;\npub struct B;"),
        ("c.rs", "use crate::a::b::B;\npub struct C;"),
    ]);
    assert_eq!(
        found,
        [
            "src/a/b.rs:1: a/b.rs -> a.rs is part of a cycle: \
             src/a.rs:2: a.rs -> c.rs src/c.rs:1: c.rs -> a/b.rs",
            "src/c.rs:1: c.rs -> a/b.rs points up in the floor plan",
        ]
    );
}
