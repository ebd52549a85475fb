use super::*;

fn parsed(text: &str) -> Dockerfile {
    parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn one(text: &str) -> Instruction {
    let mut file = parsed(&format!("FROM x\n{text}"));
    file.stages[0].steps.remove(0).instruction
}

fn error(text: &str) -> String {
    parse(text.as_bytes()).expect_err(text).to_string()
}

fn plain(command: CommandLine) -> RunArgs {
    RunArgs { command, mounts: Vec::new(), network: RunNetwork::Default, heredocs: Vec::new() }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|item| (*item).to_owned()).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Fragments that existing Rust parsers fail on (reference/crates.md), and more of their kind.
#[test]
fn tricky_files() {
    let file = parsed(
        "\u{feff}# Escape = `\r\n# syntax=docker/dockerfile:1\r\n\r\n# a comment\r\narg V=1\r\n\
         from b as Base\r\n  # indented comment\r\nrun dir c:\\ `\r\n  # inside\r\n\r\n  second\r\n\
         COPY [\"a b\", \"/d d/\"]\r\nfrom --platform=linux/amd64 base AS two",
    );
    assert_eq!(file.escape, '`');
    assert_eq!(file.meta_args.len(), 1);
    assert_eq!(file.meta_args[0].line, 5);
    let base = &file.stages[0];
    assert_eq!((base.base.as_str(), base.name.as_deref(), base.line), ("b", Some("base"), 6));
    assert_eq!(base.code, "from b as Base");
    assert_eq!(base.steps[0].code, "run dir c:\\   second");
    assert_eq!(base.steps[0].line, 8);
    assert_eq!(
        base.steps[1].instruction,
        Instruction::Copy(CopyArgs {
            sources: strings(&["a b"]),
            dest: "/d d/".into(),
            ..CopyArgs::default()
        })
    );
    assert_eq!(file.stages[1].platform.as_deref(), Some("linux/amd64"));
    assert_eq!(file.gaps, [8]);
    assert_eq!(base.steps[0].last_line, 11);
}

#[test]
fn continuation_lines() {
    for (text, want) in [
        ("RUN a \\\n b", "RUN a  b"),
        ("RUN a \\   \n b", "RUN a  b"),
        ("RUN a \\\r\n b", "RUN a  b"),
        ("RUN a \\\n# c\n# d \\\n b", "RUN a  b"),
        ("RUN a \\\\\nRUN b", "RUN a \\\\"),
        ("RUN a\\", "RUN a"),
        ("RUN a \\\n\n", "RUN a"),
        ("RU\\\nN a", "RUN a"),
        ("\\\nRUN a", "RUN a"),
    ] {
        assert_eq!(parsed(&format!("FROM x\n{text}")).stages[0].steps[0].code, want, "{text}");
    }
}

#[test]
fn directives_count_only_at_the_top() {
    assert_eq!(parsed("# c\n# escape=`\nFROM x").escape, '\\');
    assert_eq!(parsed("\n# escape=`\nFROM x").escape, '\\');
    assert_eq!(parsed("# foo=1\n# escape=`\nFROM x").escape, '\\');
    assert_eq!(parsed("# check=skip=all\n#ESCAPE=`\nFROM x").escape, '`');
    assert_eq!(
        error("# escape=x\nFROM x"),
        "dockerfile parse error on line 1: invalid escape token 'x' does not match ` or \\"
    );
    assert_eq!(
        error("# escape=`\n# escape=`\nFROM x"),
        "dockerfile parse error on line 2: only one escape parser directive can be used"
    );
}

#[test]
fn env_label_arg() {
    for (text, want) in [
        ("ENV a b", vec![("a", "b")]),
        ("ENV a  b  c ", vec![("a", "b  c")]),
        ("ENV a b=c", vec![("a", "b=c")]),
        ("ENV a=b c=\"d e\" f=g\\ h", vec![("a", "b"), ("c", "\"d e\""), ("f", "g\\ h")]),
        ("ENV a=", vec![("a", "")]),
        ("ENV a='x \\' b=2", vec![("a", "'x \\'"), ("b", "2")]),
        ("ENV a=\"x\\\" y\" b=2", vec![("a", "\"x\\\" y\""), ("b", "2")]),
        ("ENV a=b\\\n  c=d", vec![("a", "b"), ("c", "d")]),
    ] {
        assert_eq!(one(text), Instruction::Env(pairs(&want)), "{text}");
    }
    assert_eq!(
        one("LABEL \"a b\"=c"),
        Instruction::Label { pairs: pairs(&[("\"a b\"", "c")]), literal: false }
    );
    assert_eq!(
        one("ARG a b=1 c="),
        Instruction::Arg(vec![
            ("a".into(), None),
            ("b".into(), Some("1".into())),
            ("c".into(), Some(String::new()))
        ])
    );
}

#[test]
fn commands_in_both_forms() {
    let shell = |text: &str| CommandLine::Shell(text.into());
    assert_eq!(one("CMD [\"a\", \"b\\n\"]"), Instruction::Cmd(CommandLine::Exec(strings(&["a", "b\n"]))));
    assert_eq!(one("CMD []"), Instruction::Cmd(CommandLine::Exec(vec![])));
    assert_eq!(one("CMD"), Instruction::Cmd(shell("")));
    assert_eq!(one("CMD ['a']"), Instruction::Cmd(shell("['a']")));
    assert_eq!(one("ENTRYPOINT  a  b "), Instruction::Entrypoint(shell("a  b")));
    assert_eq!(one("RUN [ -f x ] && y"), Instruction::Run(plain(shell("[ -f x ] && y"))));
    assert_eq!(one("RUN -- --x"), Instruction::Run(plain(shell("--x"))));
    assert_eq!(one("SHELL [\"bash\",\"-c\"]"), Instruction::Shell(strings(&["bash", "-c"])));
}

#[test]
fn copy_and_add() {
    let want = CopyArgs {
        sources: strings(&["a", "b"]),
        dest: "/c".into(),
        chown: Some("u:g".into()),
        from: Some("0".into()),
        ..CopyArgs::default()
    };
    assert_eq!(one("COPY --chown=u:g --from=0 a b /c"), Instruction::Copy(want.clone()));
    assert_eq!(
        one("COPY --from=\"0\" --chown='u:g' --link [\"a\",\"b\",\"/c\"]"),
        Instruction::Copy(CopyArgs { link: true, ..want })
    );
    let text =
        "ADD --chmod=755 --checksum=sha256:x --keep-git-dir --unpack=false --exclude=a --exclude=b* a b";
    let Instruction::Add(args) = one(text) else { panic!() };
    assert_eq!((args.chmod.as_deref(), args.checksum.as_deref()), (Some("755"), Some("sha256:x")));
    assert!(args.keep_git_dir && args.unpack == Some(false));
    assert_eq!(args.excludes, ["a", "b*"]);
}

#[test]
fn the_others() {
    assert_eq!(one("expose 90 80/udp"), Instruction::Expose(strings(&["80/udp", "90"])));
    assert_eq!(one("VOLUME /a /b"), Instruction::Volume(strings(&["/a", "/b"])));
    assert_eq!(one("VOLUME [\"/a b\"]"), Instruction::Volume(strings(&["/a b"])));
    assert_eq!(one("USER  a b "), Instruction::User("a b".into()));
    assert_eq!(one("WORKDIR /a b"), Instruction::Workdir("/a b".into()));
    assert_eq!(one("MAINTAINER me <a@b>"), Instruction::Maintainer("me <a@b>".into()));
    assert_eq!(one("STOPSIGNAL $S"), Instruction::StopSignal("$S".into()));
    assert_eq!(
        one("ONBUILD  run --mount=target=/x a"),
        Instruction::Onbuild("run --mount=target=/x a".into())
    );
    let Instruction::Healthcheck(health) = one(
        "HEALTHCHECK --interval=1m30s --timeout=5s --start-period=1s --start-interval=2s --retries=3 CMD curl x",
    ) else {
        panic!()
    };
    assert_eq!(health.test, Some(strings(&["CMD-SHELL", "curl x"])));
    assert_eq!((health.interval, health.retries, health.start_interval), (90_000_000_000, 3, 2_000_000_000));
    let Instruction::Healthcheck(health) = one("healthcheck cmd [\"a\"]") else { panic!() };
    assert_eq!(health.test, Some(strings(&["CMD", "a"])));
    let Instruction::Healthcheck(health) = one("HEALTHCHECK none") else { panic!() };
    assert_eq!(health.test, Some(strings(&["NONE"])));
}

#[test]
fn errors_have_dockers_text_and_the_line() {
    for (line, want) in [
        ("FOO bar", "unknown instruction: FOO"),
        ("foo", "unknown instruction: FOO"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("ENV =b", "ENV names can not be blank"),
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("COPY --foo a b", "Unknown flag: foo"),
        ("COPY --from a b", "Missing a value on flag: from"),
        ("COPY --chown=a --chown=b a b", "Duplicate flag specified: chown"),
        ("COPY --link=x a b", "Expecting boolean value for flag link, not: x"),
        ("ADD --from=x a b", "Unknown flag: from"),
        ("CMD [\"a\", 1]", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("SHELL bash -c", "SHELL requires the arguments to be in JSON form: bash -c"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("RUN", "RUN requires at least one argument"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM", "FROM requires either one or three arguments"),
        (
            "FROM a AS 1x",
            "invalid name for build stage: \"1x\", name can't start with a number or contain symbols",
        ),
        ("ONBUILD ONBUILD RUN a", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD from a", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK NONE a", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK x", "Unknown type \"X\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK --interval=5 CMD a", "time: invalid duration \"5\""),
        ("HEALTHCHECK --timeout=1us CMD a", "Interval \"timeout\" cannot be less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD a", "--retries cannot be negative (-1)"),
        ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
    ] {
        assert_eq!(
            error(&format!("FROM x\n\n{line}\n")),
            format!("dockerfile parse error on line 3: {want}"),
            "{line}"
        );
    }
    assert_eq!(error("RUN a"), "dockerfile parse error on line 1: no build stage in current context");
    assert_eq!(error("# only\n"), "dockerfile parse error on line 1: file with no instructions");
    let long = format!("FROM x\nRUN {}", "x".repeat(70_000));
    assert!(error(&long).ends_with("line greater than max allowed size of 65535"));
}

fn run_of(text: &str) -> RunArgs {
    match one(text) {
        Instruction::Run(args) => args,
        other => panic!("{text}: {other:?}"),
    }
}

fn heredoc_of(name: &str, data: &str, expand: bool, chomp: bool) -> Heredoc {
    Heredoc { name: name.into(), data: data.into(), expand, chomp }
}

/// The examples of the reference's section on here-documents.
#[test]
fn here_documents() {
    let run = run_of("RUN <<EOT bash\n  set -ex\n  apt-get update\nEOT");
    assert_eq!(run.command, CommandLine::Shell("<<EOT bash".into()));
    assert_eq!(run.heredocs, [heredoc_of("EOT", "  set -ex\n  apt-get update\n", true, false)]);
    let run = run_of("RUN cat <<-'A' > /a && cat <<\"B C\" > /b\n\tone # no comment\n\tA\ntwo \\\n\nB C");
    let want =
        [heredoc_of("A", "\tone # no comment\n", false, true), heredoc_of("B C", "two \\\n\n", false, false)];
    assert_eq!(run.heredocs, want);
    assert_eq!(run.heredocs[0].text(), "one # no comment\n");
    let Instruction::Copy(copy) = one("COPY <<robots.txt <<humans.txt /srv/\nagents\nrobots.txt\nhumans.txt")
    else {
        panic!()
    };
    assert_eq!(copy.sources, ["<<robots.txt", "<<humans.txt"]);
    assert_eq!(copy.heredocs[1], heredoc_of("humans.txt", "", true, false));
    let Instruction::Onbuild(text) = one("ONBUILD RUN cat <<A\nx\nA") else { panic!() };
    assert_eq!(text, "RUN cat <<A\nx\nA");
    assert_eq!(parse_trigger(&text).unwrap().instruction, one("RUN cat <<A\nx\nA"));
    let file = parsed("FROM x\nRUN <<A\nFROM y\nA\nRUN z");
    assert_eq!(
        (file.stages.len(), file.stages[0].steps[1].line, file.stages[0].steps[0].last_line),
        (1, 5, 4)
    );
    assert_eq!(
        error("FROM x\nRUN <<EOF\nx"),
        "dockerfile parse error on line 2: unterminated heredoc: no line that is \"EOF\" alone"
    );
    assert!(error("FROM x\nCOPY a <<E\nE").contains("COPY cannot accept a heredoc as a destination"));
}

#[test]
fn mounts() {
    use super::mount::{MountKind, Sharing};
    let mount = |text: &str| {
        let words = run_of(&format!("RUN --mount={text} x")).mounts.remove(0);
        words.resolve(|value| Ok::<_, SyntaxError>(value.replace("$V", "value"))).unwrap()
    };
    let bind = mount("target=/t,source=s,rw");
    assert_eq!((bind.kind, bind.target.as_str(), bind.writable), (MountKind::Bind, "/t", Some(true)));
    let cache = mount("type=cache,id=$V,dst=/c,sharing=locked,mode=0700,uid=5,gid=6,ro=true");
    assert_eq!((cache.id.as_str(), cache.sharing, cache.mode), ("value", Sharing::Locked, Some(0o700)));
    assert_eq!((cache.uid, cache.gid, cache.writable), (5, 6, Some(false)));
    assert_eq!(mount("type=tmpfs,target=/t,size=64m").size, 64 << 20);
    assert_eq!(mount("type=tmpfs,target=/t,size=1g").size, 1 << 30);
    let secret = mount("type=secret,id=s,env=TOKEN,required");
    assert!(secret.required && secret.env.as_deref() == Some("TOKEN"));
    assert_eq!(mount("'type=secret,\"id=a,b\"'").id, "a,b");
    assert_eq!(mount("type=ssh").kind, MountKind::Ssh);
    for (text, why) in [
        ("type=odd,target=/x", "unsupported mount type \"odd\""),
        ("type=bind", "field Target must not be empty"),
        ("type=cache", "field Target must not be empty"),
        ("type=tmpfs,target=/x,source=y", "unexpected key \"source\" for mount type \"tmpfs\""),
        ("type=secret,from=y", "unexpected key \"from\" for mount type \"secret\""),
        ("type=bind,target=/x,odd=1", "unexpected key \"odd\" for mount type \"bind\""),
        ("type=cache,target=/x,sharing=all", "invalid value for sharing: \"all\""),
        ("type=cache,target=/x,mode=9", "invalid value for mode: \"9\""),
        ("type=tmpfs,target=/x,size=big", "invalid value for size: \"big\""),
        ("type=secret,required=perhaps", "invalid value for required: \"perhaps\""),
        ("type=bind,target", "invalid field \"target\" must be a key=value pair"),
        ("type=bind,target=/x,from=$S", "'from' doesn't support variable expansion ($S)"),
    ] {
        let got = error(&format!("FROM x\nRUN --mount={text} y"));
        assert!(got.starts_with("dockerfile parse error on line 2: ") && got.contains(why), "{text}: {got}");
    }
}

#[test]
fn flags_of_run() {
    let run = run_of("RUN --network=none --security=sandbox --mount=type=tmpfs,target=/x a");
    assert_eq!((run.network, run.mounts.len()), (RunNetwork::None, 1));
    assert_eq!(run_of("RUN --network=host a").network, RunNetwork::Host);
    for (text, why) in [
        ("RUN --network=bridge a", "invalid network mode \"bridge\""),
        ("RUN --security=insecure a", "NotImplemented: RUN --security=insecure"),
        ("RUN --security=odd a", "security \"odd\" is not valid"),
        ("RUN --device=x a", "NotImplemented: RUN --device"),
        ("RUN --odd a", "Unknown flag: odd"),
        ("FROMM a", "unknown instruction: FROMM (did you mean FROM?)"),
    ] {
        let got = error(&format!("FROM x\n{text}"));
        assert!(got.contains(why), "{text}: {got}");
    }
}

#[test]
fn shifts_are_no_here_documents() {
    for shift in
        ["RUN echo $((1<<2))", "RUN echo '1 <<x'", "RUN cat <<<x", "CMD cat <<EOF", "RUN [\"a\",\"<<b\"]"]
    {
        parsed(&format!("FROM x\n{shift}"));
    }
}

/// Random lines of the language's own pieces: whatever they are, the parser and the expander answer.
#[test]
fn never_panics() {
    const PIECES: &[&str] = &[
        "FROM ",
        "x",
        "RUN ",
        "ENV ",
        "COPY ",
        "ADD ",
        "LABEL ",
        "ARG ",
        "ONBUILD ",
        "HEALTHCHECK ",
        "CMD",
        "SHELL ",
        "VOLUME ",
        "EXPOSE ",
        "--",
        "--from=",
        "--chown=",
        "--interval=",
        "[",
        "]",
        "\"",
        "'",
        "\\",
        "`",
        "$",
        "{",
        "}",
        ":",
        "-",
        "+",
        "?",
        "#",
        "%",
        "/",
        "=",
        " ",
        "\t",
        "\n",
        "\r\n",
        "é",
        "\u{a0}",
        "<<EOF",
        "# escape=`\n",
        "a=b",
        ",",
        "\u{feff}",
        "1h",
        "\0",
    ];
    let mut state = 0x5eac_0015_u64;
    let mut next = |bound: usize| {
        // xorshift64: the same sequence on every run, so that a failure can be found again.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let variables = crate::expand::Variables::from([("x".to_owned(), "v w".to_owned())]);
    for _ in 0..60_000 {
        let mut text = String::from(if next(2) == 0 { "FROM x\n" } else { "" });
        for _ in 0..next(24) {
            text.push_str(PIECES[next(PIECES.len())]);
        }
        let mut bytes = text.clone().into_bytes();
        if next(4) == 0 && !bytes.is_empty() {
            let at = next(bytes.len());
            bytes[at] = next(256) as u8;
        }
        _ = parse(&bytes);
        _ = parse_steps(&bytes);
        _ = crate::expand::words(&text, '\\', &variables);
        _ = crate::ignore::Matcher::parse(&bytes).map(|matcher| matcher.excludes(&text));
    }
}
