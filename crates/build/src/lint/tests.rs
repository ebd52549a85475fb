use super::*;
use crate::dockerfile::parse;

fn found(text: &str) -> Vec<String> {
    let file = parse(text.as_bytes()).unwrap();
    let lint = Lint::of(&file).unwrap();
    lint.warnings()
        .iter()
        .map(|warning| format!("{} {}: {}", warning.line, warning.rule, warning.text))
        .collect()
}

fn rules(text: &str) -> Vec<&'static str> {
    let file = parse(text.as_bytes()).unwrap();
    Lint::of(&file).unwrap().warnings().iter().map(|warning| warning.rule).collect()
}

/// The "bad" and "good" examples of Docker's page of build checks.
#[test]
fn the_examples_of_the_reference() {
    for (rule, bad, good) in [
        ("ConsistentInstructionCasing", "From a\nRun b", "FROM a\nRUN b"),
        ("ConsistentInstructionCasing", "FROM a\nrun b\nRUN c", "from a\nrun b"),
        ("DuplicateStageName", "FROM a AS x\nRUN b\nFROM c AS x", "FROM a AS x\nFROM c AS y"),
        ("ExposeInvalidFormat", "FROM a\nEXPOSE 127.0.0.1:80:80", "FROM a\nEXPOSE 80"),
        ("ExposeProtoCasing", "FROM a\nEXPOSE 80/TcP", "FROM a\nEXPOSE 80/tcp"),
        ("FromAsCasing", "FROM a as b", "FROM a AS b"),
        ("FromAsCasing", "from a AS b", "from a as b"),
        (
            "FromPlatformFlagConstDisallowed",
            "FROM --platform=linux/amd64 a",
            "FROM --platform=$BUILDPLATFORM a",
        ),
        ("InvalidDefaultArgInFrom", "ARG TAG\nFROM busybox:${TAG}", "ARG TAG=latest\nFROM busybox:${TAG}"),
        ("InvalidDefaultArgInFrom", "ARG V\nFROM $V", "ARG V=bb\nFROM $V"),
        ("JSONArgsRecommended", "FROM a\nCMD npm start", "FROM a\nCMD [\"npm\", \"start\"]"),
        ("JSONArgsRecommended", "FROM a\nENTRYPOINT x y", "FROM a\nSHELL [\"bash\", \"-c\"]\nENTRYPOINT x y"),
        ("LegacyKeyValueFormat", "FROM a\nENV DIR /a", "FROM a\nENV DIR=/a"),
        ("LegacyKeyValueFormat", "FROM a\nLABEL k v", "FROM a\nLABEL k=v"),
        ("MaintainerDeprecated", "FROM a\nMAINTAINER me", "FROM a\nLABEL maintainer=me"),
        (
            "MultipleInstructionsDisallowed",
            "FROM a\nCMD []\nCMD [\"x\"]",
            "FROM a\nCMD []\nFROM b\nCMD [\"x\"]",
        ),
        ("NoEmptyContinuation", "FROM a\nRUN b \\\n\n c", "FROM a\nRUN b \\\n# c\n c"),
        ("RedundantTargetPlatform", "FROM --platform=$TARGETPLATFORM a", "FROM a"),
        ("ReservedStageName", "FROM a AS scratch", "FROM a AS builder"),
        ("SecretsUsedInArgOrEnv", "FROM scratch\nARG AWS_SECRET_ACCESS_KEY", "FROM scratch\nARG MONKEY"),
        ("SecretsUsedInArgOrEnv", "FROM scratch\nENV API_TOKEN=x", "FROM scratch\nENV PUBLIC_KEY=x"),
        ("StageNameCasing", "FROM a AS BuilderBase", "FROM a AS builderbase"),
        ("WorkdirRelativePath", "FROM a\nWORKDIR usr/share", "FROM a\nWORKDIR /usr/share\nWORKDIR x"),
    ] {
        assert!(rules(bad).contains(&rule), "{rule} should be found: {bad:?}: {:?}", found(bad));
        assert!(!rules(good).contains(&rule), "{rule} should not be found: {good:?}: {:?}", found(good));
    }
    assert_eq!(
        found("FROM a\nCMD npm start"),
        [
            "2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals"
        ]
    );
    assert_eq!(
        found("ARG TAG\nFROM busybox:${TAG}"),
        [
            "2 InvalidDefaultArgInFrom: Default value for ARG busybox:${TAG} results in empty or invalid base image name"
        ]
    );
}

#[test]
fn variables() {
    let lint = Lint::default();
    let variables = [("VERSION".to_owned(), "1".to_owned())].into();
    lint.undefined(3, &["VERSIO".into(), "Q".into()], &variables);
    lint.undefined_in_from(1, &["VERSON".into()], &variables);
    let texts: Vec<String> = lint.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "UndefinedArgInFrom: FROM argument 'VERSON' is not declared (did you mean VERSION?)",
            "UndefinedVar: Usage of undefined variable '$Q'",
            "UndefinedVar: Usage of undefined variable '$VERSIO' (did you mean $VERSION?)",
        ]
    );
}

#[test]
fn the_directive_chooses() {
    let bad = "FROM a as b\nMAINTAINER me\nCMD x y";
    assert_eq!(rules(bad).len(), 3);
    assert_eq!(rules(&format!("# check=skip=all\n{bad}")).len(), 0);
    assert_eq!(
        rules(&format!("# check=skip=FromAsCasing, maintainerdeprecated\n{bad}")),
        ["JSONArgsRecommended"]
    );
    let fatal = parse(format!("# check=skip=FromAsCasing;error=true\n{bad}").as_bytes()).unwrap();
    assert!(Lint::of(&fatal).unwrap().is_fatal());
    for wrong in ["skip", "error=perhaps", "odd=1"] {
        let file = parse(format!("# check={wrong}\nFROM a").as_bytes()).unwrap();
        let error = Lint::of(&file).unwrap_err().to_string();
        assert!(error.contains("invalid check directive"), "{error}");
    }
}
