//! What SPIRE's files may look like, and what is said about what they may not.

use proptest::prelude::*;

use super::*;

fn good(text: &str) -> Body {
    parse("x.conf", text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn bad(text: &str) -> String {
    match parse("x.conf", text) {
        Ok(body) => panic!("{text:?} is {body:?}"),
        Err(error) => error.to_string(),
    }
}

/// Keys joined by `/`, values as short text.
fn flat(body: &Body) -> String {
    let items = body
        .items
        .iter()
        .map(|item| format!("{}={}", item.keys.join("/"), short(&item.value)));
    items.collect::<Vec<_>>().join(";")
}

fn short(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Bool(yes) => yes.to_string(),
        Value::Null => "null".to_owned(),
        Value::List(values) => format!("[{}]", values.iter().map(short).collect::<Vec<_>>().join(",")),
        Value::Body(body) => format!("{{{}}}", flat(body)),
    }
}

#[test]
fn every_form_is_read() {
    for (text, expected) in [
        ("", ""),
        ("# only\n// comments\n/* of\n three */ kinds = 3", "kinds=3"),
        ("a = 1", "a=1"),
        ("a=1 b=2", "a=1;b=2"),
        ("\"quoted name\" = true", "quoted name=true"),
        ("a-b.c_d = false", "a-b.c_d=false"),
        ("block {}", "block={}"),
        ("block = {}", "block={}"),
        ("block { a = 1 b = 2 }", "block={a=1;b=2}"),
        ("block { a = 1, b = 2, }", "block={a=1;b=2}"),
        ("Type \"name\" { x { y = 1 } }", "Type/name={x={y=1}}"),
        ("Type name { }", "Type/name={}"),
        ("\"Type\" \"a\" \"b\" {}", "Type/a/b={}"),
        ("a {}\na {}", "a={};a={}"),
        ("l = []", "l=[]"),
        ("l = [1, \"two\", true,]", "l=[1,\"two\",true]"),
        ("l = [ { a = 1 b = 2 }, { a = 3 }, ]", "l=[{a=1;b=2},{a=3}]"),
        ("l = [[1],\n # why\n [2]]", "l=[[1],[2]]"),
        ("n = 0x1F", "n=31"),
        ("n = 0755", "n=493"),
        ("n = -7", "n=-7"),
        ("n = 1.5", "n=1.5"),
        ("n = 1e3", "n=1000.0"),
        ("n = -2.5E-1", "n=-0.25"),
        ("n = 0", "n=0"),
        (
            r#"s = "a\n\t\"\\\x41\101\u00e4\U0001F600""#,
            "s=\"a\\n\\t\\\"\\\\AAä😀\"",
        ),
        (r#"s = "${env("X")} and $Y""#, "s=\"${env(\\\"X\\\")} and $Y\""),
        ("s = \"${a{b}\nc}\"", "s=\"${a{b}\\nc}\""),
        ("s = \"# no // comment\"", "s=\"# no // comment\""),
        ("s = <<EOF\none\n  two\nEOF\nt = 1", "s=\"one\\n  two\\n\";t=1"),
        ("s = <<EOF\none\r\n  EOF\r\n", "s=\"one\\n\""),
        (
            "s = <<-EOF\n    one\n      two\n    EOF\n",
            "s=\"one\\n  two\\n\"",
        ),
        ("s = <<-EOF\n  one\n    EOF\n", "s=\"  one\\n\""),
        ("s = <<EOF\nEOF", "s=\"\""),
        ("\u{feff}a = 1\r\nb = 2\r\n", "a=1;b=2"),
        (
            "{\"server\": {\"bind_port\": 8081, \"l\": [\"a\", null], \"x\": {}}}",
            "server={bind_port=8081;l=[\"a\",null];x={}}",
        ),
        ("\n{\"a\": \"\\u00e4\\/\\ud83d\\ude00${x\"}\n", "a=\"ä/😀${x\""),
        ("{}", ""),
    ] {
        assert_eq!(flat(&good(text)), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_place_and_expectation() {
    for (text, parts) in [
        ("a", ["1:2", "= or {", "the end of the file"]),
        ("a b", ["1:4", "{ after the labels", "the end of the file"]),
        ("a \"b\" = 1", ["1:7", "{ after the labels", "="]),
        ("a = b", ["1:5", "a string in quotes", "b"]),
        ("a = ", ["1:5", "a value", "the end of the file"]),
        ("\n\na = = 1", ["3:5", "a value", "="]),
        ("= 1", ["1:1", "a name", "="]),
        ("}", ["1:1", "the end of the file", "}"]),
        (
            "a {\n b = 1\n",
            ["3:1", "} for the { of line 1", "the end of the file"],
        ),
        ("a = [1 2]", ["1:8", "a comma or ]", "2"]),
        ("a = [1", ["1:7", "a comma or ]", "the end of the file"]),
        ("a = [{ b = 1 } { b = 2 }]", ["1:16", "a comma", "{"]),
        ("a = [,]", ["1:6", "a value", "a comma"]),
        ("a = 1,\nb = 2", ["1:6", "a name", "a comma"]),
        ("a = \"b", ["1:5", "a closing quote", "the end of the file"]),
        ("a = \"b\nc\"", ["1:5", "a closing quote", "the end of the line"]),
        (
            "a = \"${b\"",
            ["1:5", "} at the end of ${", "the end of the file"],
        ),
        (r#"a = "b\.c""#, ["1:7", "an escape", "\\."]),
        (r#"a = "\xZZ""#, ["1:6", "an escape", "\\x"]),
        (r#"a = "\xff""#, ["1:5", "UTF-8", "invalid"]),
        (r#"a = "\ud800""#, ["1:6", "an escape", "\\u"]),
        (
            "a = <<EOF\nx",
            ["1:5", "a line with EOF alone", "the end of the file"],
        ),
        ("a = <<\nx", ["1:5", "a marker", "something else"]),
        (
            "a = <<EOF x\nEOF",
            ["1:5", "the end of the line", "something else"],
        ),
        ("a = 08", ["1:5", "an octal number", "08"]),
        ("a = 0xg", ["1:5", "a number", "0xg"]),
        ("a = 1x", ["1:5", "a number", "1x"]),
        ("a = 1-2", ["1:5", "a number", "1-2"]),
        ("a = 1e999", ["1:5", "a number", "1e999"]),
        ("a = --1", ["1:5", "a number", "--1"]),
        ("a = 99999999999999999999999999x", ["1:5", "a number", "9999"]),
        ("a ? 1", ["1:3", "a name, a value or a sign", "'?'"]),
        ("/* a", ["1:1", "*/", "the end of the file"]),
        ("ä = \"ö\" ?", ["1:9", "a name", "'?'"]),
        ("{\"a\" = 1}", ["1:6", "JSON", "expected `:`"]),
        ("{\"a\": 1} x", ["1:10", "JSON", "trailing"]),
        ("{ a: 1 }", ["1:3", "JSON", "string"]),
    ] {
        let error = bad(text);
        let [place, expected, found] = parts;
        assert!(
            error.starts_with(&format!("x.conf:{place}: expected ")),
            "{text:?}: {error}"
        );
        assert!(
            error.contains(expected) && error.contains(found),
            "{text:?}: {error}"
        );
    }
}

#[test]
fn a_string_in_a_wrong_place_is_not_repeated() {
    assert!(!bad("join_token = \"a\" = \"hunter2\"").contains("hunter2"));
    assert!(!bad("l = [\"a\" \"hunter2\"]").contains("hunter2"));
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |levels: usize| "a {".repeat(levels) + &"}".repeat(levels);
    good(&nested(MAX_DEPTH));
    assert!(bad(&nested(MAX_DEPTH + 1)).contains("at most 32 levels"));
    assert!(bad(&"a {".repeat(100_000)).contains("at most 32 levels"));
    assert!(bad(&format!("a = {}", "[".repeat(100_000))).contains("at most 32 levels"));
    assert!(!bad(&"{\"a\":".repeat(100_000)).is_empty());
    assert!(!bad(&format!("{{\"a\":{}", "[".repeat(100_000))).is_empty());
    assert!(bad(&" ".repeat(MAX_BYTES + 1)).contains("at most 1048576 bytes"));
    good(&" ".repeat(MAX_BYTES));
}

#[test]
fn places_point_at_names() {
    let body = good("a = 1\n\n  /* x\n */ b {\n\tc = <<X\nX\n\td = 2 }");
    let Value::Body(inner) = &body.items[1].value else {
        panic!("{body:?}")
    };
    let places =
        [&body.items[0], &body.items[1], &inner.items[0], &inner.items[1]].map(|item| item.place.to_string());
    assert_eq!(places, ["1:1", "4:5", "5:2", "7:2"]);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        drop(parse("x", &text));
    }

    /// Pieces of HCL in any order reach further than noise.
    #[test]
    fn no_pieces_make_it_panic(pieces in proptest::collection::vec(piece(), 0..40)) {
        drop(parse("x", &pieces.concat()));
        drop(parse("x", &format!("{{{}", pieces.concat())));
    }

    #[test]
    fn a_string_survives_its_quotation(text in "[^$]{0,60}") {
        let quoted: String = text.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
        let body = good(&format!("a = \"{quoted}\""));
        prop_assert_eq!(&body.items[0].value, &Value::Text(text));
    }
}

fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a", " = ", "{", "}", "[", "]", ",", "\"x\"", "\"", "\\", "\\u12", "${", "1", "-", "0x", "1.5e",
        "<<EOF\n", "<<-E\n", "EOF\n", "E", "\n", "#", "//", "/*", "*/", ":", "true", "null", "ä", "\u{0}",
        "\\ud83d", " ",
    ])
}
