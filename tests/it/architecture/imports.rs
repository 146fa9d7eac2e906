//! The direction of imports: downwards between layers, without cycles, and never from a child to
//! the `mod.rs` of its parent.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::{Source, sources};

/// The layers that each layer may import. `crate::limits` is open to all.
const LAYERS: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("domain", &[]),
    ("auth", &["domain"]),
    ("config", &["auth", "domain"]),
    ("kernel", &["domain"]),
    ("storage", &["domain", "kernel"]),
    ("process", &["domain", "kernel"]),
    ("protocol", &["domain"]),
    ("client", &["domain", "protocol"]),
    (
        "server",
        &["auth", "config", "domain", "kernel", "protocol", "storage"],
    ),
    (
        "cli",
        &[
            "auth", "client", "config", "domain", "kernel", "process", "protocol", "server",
            "storage",
        ],
    ),
];

/// The parts of `server`, each of which may import those before it.
const SERVER_PARTS: &[&[&str]] = &[
    &["session_id"],
    &["policy", "log"],
    &["options"],
    &["workers"],
    &["net", "service"],
    &["conn"],
    &["event_loop"],
    &["start"],
];

/// The longest chain of imports between the parts of `server`.
const SERVER_LEVELS_MAX: usize = 7;

/// One import: the importing file, the line, and the module that it names.
struct Import<'a> {
    source: &'a Source,
    line: usize,
    module: String,
}

#[test]
fn layers_import_only_layers_below() {
    let mut violations = Vec::new();
    let sources = sources("src");
    for import in imports(&sources) {
        let own = layer(&import.source.module());
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == own) else {
            continue;
        };
        let other = layer(&import.module);
        if other != own && other != "limits" && !allowed.contains(&other.as_str()) {
            violations.push(format!(
                "{}:{}: {own} must not import {other}",
                import.source.path, import.line
            ));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn parts_of_the_server_import_only_parts_below() {
    let level = |module: &str| {
        let part = module.split("::").nth(1)?;
        SERVER_PARTS.iter().position(|parts| parts.contains(&part))
    };
    let mut violations = Vec::new();
    let mut levels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let sources = sources("src");
    for import in imports(&sources) {
        let own = import.source.module();
        if layer(&own) != "server" || layer(&import.module) != "server" {
            continue;
        }
        let parts = [&own, &import.module].map(|module| module.split("::").nth(1));
        let [Some(from), Some(to)] = parts else {
            continue;
        };
        if from == to {
            continue;
        }
        levels.entry(from.into()).or_default().insert(to.into());
        if level(&import.module) >= level(&own) {
            violations.push(format!(
                "{}:{}: {from} must not import {to}",
                import.source.path, import.line
            ));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    let depth = levels.keys().map(|part| depth(part, &levels)).max();
    assert!(
        depth.is_some_and(|depth| depth <= SERVER_LEVELS_MAX),
        "{depth:?} levels of imports in server"
    );
}

#[test]
fn files_import_each_other_without_cycles() {
    for folder in ["src", "benches/load", "benches/micro"] {
        let sources = sources_of_any_size(folder);
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let files: BTreeMap<String, &str> = (sources.iter())
            .map(|source| (source.module(), source.path.as_str()))
            .collect();
        for import in imports(&sources) {
            let file = file_of(&import.module, &files);
            if file != Some(import.source.path.as_str())
                && let Some(file) = file
            {
                let from = edges.entry(import.source.path.clone()).or_default();
                from.insert(file.to_owned());
            }
        }
        let mut path = Vec::new();
        let mut done = BTreeSet::new();
        for source in &sources {
            if let Some(cycle) = cycle_from(&source.path, &edges, &mut path, &mut done) {
                panic!("import cycle: {}", cycle.join(" -> "));
            }
        }
    }
}

#[test]
fn children_do_not_import_from_the_mod_rs_of_a_parent() {
    let sources = sources("src");
    let files: BTreeMap<String, &str> = (sources.iter())
        .map(|source| (source.module(), source.path.as_str()))
        .collect();
    let mut violations = Vec::new();
    for import in imports(&sources) {
        let own = import.source.module();
        let Some(file) = file_of(&import.module, &files) else {
            continue;
        };
        let folder = file.strip_suffix("/mod.rs");
        let is_ancestor = folder.is_some_and(|folder| {
            file != import.source.path && import.source.path.starts_with(&format!("{folder}/"))
        });
        if is_ancestor {
            violations.push(format!(
                "{}:{}: {own} imports from {file}",
                import.source.path, import.line
            ));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// As [`sources`], also where there are only a few files.
fn sources_of_any_size(folder: &str) -> Vec<Source> {
    let (parent, _) = folder.split_once('/').unwrap_or((folder, ""));
    let mut all = sources(parent);
    all.retain(|source| source.path.starts_with(&format!("{folder}/")));
    // Paths of a bench are relative to its own root.
    for source in &mut all {
        if folder != "src" {
            source.path = source.path.replacen(folder, "src", 1);
        }
    }
    all
}

fn layer(module: &str) -> String {
    module.split("::").next().unwrap_or_default().to_owned()
}

/// Every path that begins with `crate::` or `super::`, made absolute and without `crate::`.
fn imports(sources: &[Source]) -> Vec<Import<'_>> {
    let mut imports = Vec::new();
    for source in sources {
        let mut lines = source.code.iter();
        while let Some((line, code)) = lines.next() {
            let mut statement = code.clone();
            if is_use(code) {
                while !statement.contains(';') {
                    let Some((_, more)) = lines.next() else { break };
                    statement.push_str(more.trim());
                }
                let tree = statement.split_once("use ").expect("it is a use").1;
                let mut leaves = Vec::new();
                expand(tree.trim_end_matches(';'), "", &mut leaves);
                for leaf in leaves {
                    push(&mut imports, source, *line, &leaf);
                }
            } else {
                for root in ["crate::", "super::"] {
                    for (at, _) in statement.match_indices(root) {
                        let path: String = (statement[at..].chars())
                            .take_while(|c| c.is_alphanumeric() || *c == ':' || *c == '_')
                            .collect();
                        push(&mut imports, source, *line, &path);
                    }
                }
            }
        }
    }
    imports
}

fn is_use(code: &str) -> bool {
    let code = code.trim_start();
    code.starts_with("use ") || (code.starts_with("pub") && code.contains(" use "))
}

fn push<'a>(imports: &mut Vec<Import<'a>>, source: &'a Source, line: usize, path: &str) {
    let mut own: Vec<String> = source.module().split("::").map(str::to_owned).collect();
    own.retain(|segment| !segment.is_empty());
    let mut segments = path.split("::").peekable();
    let mut absolute = match segments.peek() {
        Some(&"crate") => {
            segments.next();
            Vec::new()
        }
        Some(&"super") => {
            while segments.next_if_eq(&"super").is_some() {
                own.pop();
            }
            own
        }
        Some(&"self") => {
            segments.next();
            own
        }
        _ => return,
    };
    absolute.extend(segments.map(|segment| segment.trim().to_owned()));
    let module = absolute.join("::");
    imports.push(Import {
        source,
        line,
        module,
    });
}

/// Lists the leaves of a use tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(tree: &str, prefix: &str, leaves: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((before, group)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or(tree);
        leaves.push(format!("{prefix}{name}"));
        return;
    };
    let group = group.strip_suffix('}').unwrap_or(group);
    let prefix = format!("{prefix}{before}");
    let (mut depth, mut start) = (0, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&group[start..at], &prefix, leaves);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !group[start..].trim().is_empty() {
        expand(&group[start..], &prefix, leaves);
    }
}

/// The file that holds an item: that of the longest module that is a prefix of its path.
fn file_of<'a>(item: &str, files: &BTreeMap<String, &'a str>) -> Option<&'a str> {
    let mut module = item;
    loop {
        if let Some(file) = files.get(module).filter(|_| !module.is_empty()) {
            return Some(file);
        }
        module = module.rsplit_once("::")?.0;
    }
}

fn depth(part: &str, levels: &BTreeMap<String, BTreeSet<String>>) -> usize {
    let below = levels.get(part).into_iter().flatten();
    1 + below.map(|part| depth(part, levels)).max().unwrap_or(0)
}

fn cycle_from(
    file: &str,
    edges: &BTreeMap<String, BTreeSet<String>>,
    path: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(at) = path.iter().position(|on_path| on_path == file) {
        let mut cycle = path[at..].to_vec();
        cycle.push(file.to_owned());
        return Some(cycle);
    }
    if done.contains(file) {
        return None;
    }
    path.push(file.to_owned());
    for next in edges.get(file).into_iter().flatten() {
        if let Some(cycle) = cycle_from(next, edges, path, done) {
            return Some(cycle);
        }
    }
    path.pop();
    done.insert(file.to_owned());
    None
}

#[test]
fn use_trees_are_expanded() {
    let mut leaves = Vec::new();
    expand("crate::a::{self, b, c::{d, e as f}}", "", &mut leaves);
    assert_eq!(
        leaves,
        [
            "crate::a::self",
            "crate::a::b",
            "crate::a::c::d",
            "crate::a::c::e"
        ]
    );
}
