//! Sizes of files, functions and lines.

use super::sources::{Source, sources, unit_tests};

/// Lines of code of one file; comments, blank lines and unit tests do not count.
const FILE_LINES_MAX: usize = 450;

/// The same for the load bench.
const BENCH_FILE_LINES_MAX: usize = 400;

/// Lines from `fn` to the closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Parameters of a function, `self` aside.
const PARAMETERS_MAX: usize = 6;

/// Unit tests beyond this many lines have a file of their own.
const INLINE_TEST_LINES_MAX: usize = 150;

/// Uses of `unreachable!` in `src`.
const UNREACHABLE_MAX: usize = 10;

const COLUMNS_MAX: usize = 100;

#[test]
fn files_are_short() {
    let mut violations = Vec::new();
    for (folder, most) in [("src", FILE_LINES_MAX), ("benches", BENCH_FILE_LINES_MAX)] {
        for source in sources(folder) {
            let lines = (source.code.iter())
                .filter(|(_, line)| !line.trim().is_empty())
                .count();
            if lines > most {
                violations.push(format!("{}: {lines} lines of code", source.path));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn long_unit_tests_have_a_file_of_their_own() {
    let mut violations = Vec::new();
    for source in sources("src") {
        let tests = source.text[unit_tests(&source.text)..].lines().count();
        if tests > INLINE_TEST_LINES_MAX {
            violations.push(format!("{}: {tests} lines of unit tests", source.path));
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn functions_are_short_and_take_few_parameters() {
    let mut violations = Vec::new();
    for folder in ["src", "benches"] {
        for source in sources(folder) {
            for function in functions(&source) {
                if function.lines > FUNCTION_LINES_MAX || function.parameters > PARAMETERS_MAX {
                    violations.push(format!(
                        "{}:{}: {} has {} lines and {} parameters",
                        source.path,
                        function.line,
                        function.name,
                        function.lines,
                        function.parameters
                    ));
                }
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn lines_have_at_most_100_columns() {
    let mut violations = Vec::new();
    for folder in ["src", "benches", "tests", "fuzz/fuzz_targets"] {
        for source in sources(folder) {
            for (number, line) in (1..).zip(source.text.lines()) {
                // A long string cannot be wrapped by rustfmt.
                let columns = line.chars().count();
                if columns > COLUMNS_MAX && !line.contains('"') {
                    violations.push(format!("{}:{number}: {columns} columns", source.path));
                }
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn unreachable_is_a_last_resort() {
    let found: Vec<String> = (sources("src").iter())
        .flat_map(|source| {
            let lines = source.code.iter();
            let lines = lines.filter(|(_, line)| line.contains("unreachable!"));
            lines.map(|(number, _)| format!("{}:{number}", source.path))
        })
        .collect();
    assert!(found.len() <= UNREACHABLE_MAX, "{}", found.join("\n"));
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
    parameters: usize,
}

/// The functions of a file, found by the indentation that rustfmt gives them.
fn functions(source: &Source) -> Vec<Function> {
    let mut functions = Vec::new();
    let lines: Vec<&(usize, String)> = source.code.iter().collect();
    for (at, (number, line)) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let Some((before, rest)) = trimmed.split_once("fn ") else {
            continue;
        };
        let is_item = (before.split_whitespace())
            .all(|word| word.starts_with("pub") || ["const", "unsafe", "extern"].contains(&word));
        if !is_item {
            continue;
        }
        let indent = &line[..line.len() - trimmed.len()];
        let closing = format!("{indent}}}");
        let body = &lines[at..];
        let mut is_open = false;
        let Some(end) = body.iter().position(|(_, line)| {
            is_open |= line.contains('{');
            // A declaration in a trait has no body.
            *line == closing
                || line.ends_with('}') && line.contains('{')
                || !is_open && line.ends_with(';')
        }) else {
            continue;
        };
        let (last, _) = body[end];
        let name = rest.split(['(', '<']).next().unwrap_or(rest).to_owned();
        let signature: String = (body[..=end].iter())
            .map(|(_, line)| line.trim())
            .collect::<Vec<_>>()
            .join(" ");
        let has_body = body[end].1 == closing;
        functions.push(Function {
            name,
            line: *number,
            lines: if has_body { last - number + 1 } else { 1 },
            parameters: parameters(&signature),
        });
    }
    functions
}

/// Counts the parameters of a signature by its commas outside brackets.
fn parameters(signature: &str) -> usize {
    let Some(start) = signature.find("fn ").map(|at| {
        let open = signature[at..].find('(').unwrap_or(0);
        at + open + 1
    }) else {
        return 0;
    };
    let (mut depth, mut count, mut any) = (0, 0, false);
    for letter in signature[start..].chars() {
        match letter {
            '(' | '[' | '<' => depth += 1,
            ')' if depth == 0 => break,
            ')' | ']' | '>' => depth -= 1,
            ',' if depth == 0 => {
                count += usize::from(any);
                any = false;
                continue;
            }
            _ => {}
        }
        any |= !letter.is_whitespace();
    }
    let count = count + usize::from(any);
    let receiver = signature[start..].trim_start().trim_start_matches('&');
    let receiver = receiver.trim_start_matches("mut ");
    count - usize::from(receiver.starts_with("self"))
}

#[test]
fn parameters_are_counted_without_self() {
    assert_eq!(
        parameters("fn a(&mut self, b: (u8, u8), c: &[u8],) -> T {"),
        2
    );
    assert_eq!(parameters("fn a<T>() {"), 0);
    assert_eq!(parameters("fn a(b: HashMap<A, B>) {"), 1);
}
