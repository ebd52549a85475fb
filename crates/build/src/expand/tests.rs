use super::*;

fn variables() -> Variables {
    [
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("KOREAN", "한국어"),
        ("EMPTY", ""),
        ("F", "a.tar.gz"),
        ("P", "80 443"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

fn expanded(text: &str) -> Result<String, Cause> {
    word(text, '\\', &variables()).map_err(|error| error.cause)
}

/// What Docker's own table says, in our words; `None` is an error.
#[test]
fn as_docker_expands() {
    let table: &[(&str, Option<&str>)] = &[
        ("hello", Some("hello")),
        ("he'll'o", Some("hello")),
        ("he'llo", None),
        (r"he\'llo", Some("he'llo")),
        (r"he\\'llo", None),
        (r"abc\tdef", Some("abctdef")),
        (r#""abc\tdef""#, Some(r"abc\tdef")),
        (r#""abc\\tdef""#, Some(r"abc\tdef")),
        (r"'abc\tdef'", Some(r"abc\tdef")),
        (r"hello\", Some("hello")),
        (r"hello\\", Some(r"hello\")),
        (r#""hello"#, None),
        (r#""hello\""#, None),
        (r#""hel'lo""#, Some("hel'lo")),
        (r"'hello\'", Some(r"hello\")),
        (r#""''""#, Some("''")),
        ("$.", Some("$.")),
        ("$1", Some("")),
        ("he$1x", Some("hex")),
        ("he$.x", Some("he$.x")),
        ("he$pwd.", Some("he.")),
        ("he$PWD", Some("he/home")),
        (r"he\$PWD", Some("he$PWD")),
        (r"he\\$PWD", Some(r"he\/home")),
        (r#""he\$PWD""#, Some("he$PWD")),
        (r"\${}", Some("${}")),
        ("${}", None),
        ("he${}xx", None),
        ("he${hi}xx", Some("hexx")),
        ("he${PWD}", Some("he/home")),
        ("he${.}", None),
        ("he${XXX:-000}xx", Some("he000xx")),
        ("he${PWD:-000}xx", Some("he/homexx")),
        ("he${XXX:-$PWD}xx", Some("he/homexx")),
        ("he${XXX:-${PWD:-yyy}}xx", Some("he/homexx")),
        ("he${XXX:-${YYY:-yyy}}xx", Some("heyyyxx")),
        ("he${XXX:YYY}", None),
        ("he${XXX:+${PWD}}xx", Some("hexx")),
        ("he${PWD:+${XXX}}xx", Some("hexx")),
        ("he${PWD:+${SHELL}}xx", Some("hebashxx")),
        ("'he${XX}'", Some("he${XX}")),
        (r#""he'$PWD'""#, Some("he'/home'")),
        (r"'\$PWD'", Some(r"\$PWD")),
        ("he${PWD", None),
        ("he${PWD:=000}xx", None),
        ("he${PWD:+${PWD}:}xx", Some("he/home:xx")),
        (r"he${XXX:-\$PWD:}xx", Some("he$PWD:xx")),
        (r"he${XXX:-\${PWD}z}xx", Some("he${PWDz}xx")),
        ("안'녕'하세요", Some("안녕하세요")),
        ("$KOREAN", Some("한국어")),
        ("안녕$KOREAN", Some("안녕한국어")),
        ("${{aaa}", None),
        ("${aaa}}", Some("}")),
        ("${aaa:-bbb}}", Some("bbb}")),
        ("${aaa:-bbb", None),
        ("${aaa:-bbb ${foo}", None),
        ("${aaa:-bbb {foo}", Some("bbb {foo")),
        ("${:}", None),
        ("${:-bbb}", None),
        ("${EMPTY-x}", Some("")),
        ("${EMPTY:-x}", Some("x")),
        ("${NONE-x}", Some("x")),
        ("${EMPTY+x}", Some("x")),
        ("${EMPTY:+x}", Some("")),
        ("${PWD:?}", Some("/home")),
        ("${F%.*}", Some("a.tar")),
        ("${F%%.*}", Some("a")),
        ("${F#*.}", Some("tar.gz")),
        ("${F##*.}", Some("gz")),
        ("${F#b}", Some("a.tar.gz")),
        ("${F/a/b}", Some("b.tar.gz")),
        ("${F//a/b}", Some("b.tbr.gz")),
        (r"${PWD/\//_}", Some("_home")),
        ("${F/zz/b}", Some("a.tar.gz")),
        ("${F/zz", None),
    ];
    for (text, want) in table {
        match want {
            Some(want) => assert_eq!(expanded(text).as_deref(), Ok(*want), "{text}"),
            None => assert!(expanded(text).is_err(), "{text}"),
        }
    }
}

#[test]
fn error_texts_are_dockers() {
    for (text, want) in [
        (
            "a'b",
            "failed to process \"a'b\": unexpected end of statement while looking for matching single-quote",
        ),
        ("${a", "failed to process \"${a\": syntax error: missing '}'"),
        ("${}", "failed to process \"${}\": syntax error: bad substitution"),
        ("${a:=b}", "failed to process \"${a:=b}\": unsupported modifier (:=) in substitution"),
        ("${a?}", "failed to process \"${a?}\": a: is not allowed to be unset"),
        ("${EMPTY:?}", "failed to process \"${EMPTY:?}\": EMPTY: is not allowed to be empty"),
        ("${a:?no a}", "failed to process \"${a:?no a}\": a: no a"),
    ] {
        assert_eq!(word(text, '\\', &variables()).unwrap_err().to_string(), want);
    }
}

#[test]
fn another_escape_character() {
    assert_eq!(word(r"c:\x`$PWD`'", '`', &variables()).unwrap(), r"c:\x$PWD'");
}

#[test]
fn words_split_where_nothing_is_quoted() {
    let split = |text| words(text, '\\', &variables()).unwrap();
    assert_eq!(split("$P 22"), ["80", "443", "22"]);
    assert_eq!(split("\"$P\" 22"), ["80 443", "22"]);
    assert_eq!(split(r"a\ b"), ["a b"]);
    assert_eq!(split("  "), [""; 0]);
}

#[test]
fn nesting_is_bounded() {
    let deep = format!("{}x{}", "${a:-".repeat(20_000), "}".repeat(20_000));
    assert_eq!(expanded(&deep), Err(Cause::Nesting));
}
