//! The container config that a build carries from step to step, and the one function that says
//! whether two steps are the same to the cache.

use seacow_spec::Digest;
use seacow_spec::docker::container::{ContainerConfig, HealthConfig};
use seacow_spec::id::hex;
use seacow_spec::oci::image::ImageConfig;
use sha2::{Digest as _, Sha256};

use crate::gofmt;

const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The words that a shell-form command is put behind.
pub(crate) fn shell(config: &ContainerConfig) -> Vec<String> {
    match &config.shell {
        Some(shell) if !shell.is_empty() => shell.clone(),
        _ => DEFAULT_SHELL.map(str::to_owned).into(),
    }
}

/// The config of a step that runs nothing: its command is a comment for the shell. Most steps put
/// the comment into a word of its own, which shows as two blanks in the history.
pub(crate) fn with_comment(config: &ContainerConfig, comment: &str) -> ContainerConfig {
    let mut cmd = shell(config);
    cmd.extend(["#(nop) ".to_owned(), comment.to_owned()]);
    ContainerConfig { cmd: Some(cmd), ..config.clone() }
}

/// As [`with_comment`], in one word: `COPY`, `ADD` and `WORKDIR`.
pub(crate) fn with_joined_comment(config: &ContainerConfig, comment: &str) -> ContainerConfig {
    let mut cmd = shell(config);
    cmd.push(format!("#(nop) {comment}"));
    ContainerConfig { cmd: Some(cmd), ..config.clone() }
}

/// What a stage starts with.
pub(crate) fn of_base(base: Option<&ContainerConfig>) -> ContainerConfig {
    let mut config = base.cloned().unwrap_or_default();
    config.open_stdin = false;
    config.stdin_once = false;
    let env = config.env.get_or_insert_default();
    if !env.iter().any(|entry| entry.split('=').next() == Some("PATH")) {
        env.push(DEFAULT_PATH.to_owned());
    }
    config
}

/// One value for all files of an image: its layers name their contents.
pub(crate) fn content(image: &ImageConfig) -> String {
    let ids: Vec<&str> = image.rootfs.diff_ids.iter().map(Digest::as_str).collect();
    hex(&Sha256::digest(ids.join(",")))
}

/// Sets a variable, in its old place when it has one.
pub(crate) fn set_env(config: &mut ContainerConfig, name: &str, value: &str) {
    let env = config.env.get_or_insert_default();
    let entry = format!("{name}={value}");
    match env.iter_mut().find(|old| old.split('=').next() == Some(name)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// Go's `%q` of a health check, as the history has it.
pub(crate) fn quote_health(health: &HealthConfig) -> String {
    let quoted = |nanos: i64| gofmt::quote(&gofmt::duration(nanos));
    format!(
        "&{{{} {} {} {} {} {}}}",
        gofmt::quote_list(health.test.as_deref().unwrap_or_default()),
        quoted(health.interval),
        quoted(health.timeout),
        quoted(health.start_period),
        quoted(health.start_interval),
        gofmt::quote_rune(health.retries)
    )
}

/// Whether two configs describe the same step. What belongs to one container only (host name,
/// parent image, address) does not count; an absent list is an empty one.
pub(crate) fn same_step(a: &ContainerConfig, b: &ContainerConfig) -> bool {
    // Exhaustive on purpose: a new field must be decided about.
    let ContainerConfig {
        hostname: _,
        domainname: _,
        user,
        attach_stdin,
        attach_stdout,
        attach_stderr,
        exposed_ports,
        tty,
        open_stdin,
        stdin_once,
        env,
        cmd,
        healthcheck,
        args_escaped,
        image: _,
        volumes,
        working_dir,
        entrypoint,
        network_disabled,
        mac_address: _,
        on_build,
        labels,
        stop_signal,
        stop_timeout,
        shell,
    } = a;
    let switches = [*attach_stdin, *attach_stdout, *attach_stderr, *tty, *open_stdin, *stdin_once]
        == [b.attach_stdin, b.attach_stdout, b.attach_stderr, b.tty, b.open_stdin, b.stdin_once];
    let words = same(cmd, &b.cmd)
        && same(entrypoint, &b.entrypoint)
        && same(env, &b.env)
        && same(on_build, &b.on_build)
        && same(shell, &b.shell);
    let sets = same(exposed_ports, &b.exposed_ports) && same(volumes, &b.volumes) && same(labels, &b.labels);
    let values = *user == b.user
        && *working_dir == b.working_dir
        && same(args_escaped, &b.args_escaped)
        && same(network_disabled, &b.network_disabled)
        && same(stop_signal, &b.stop_signal)
        && *stop_timeout == b.stop_timeout
        && *healthcheck == b.healthcheck;
    switches && words && sets && values
}

fn same<T: Default + PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b,
        (Some(one), None) | (None, Some(one)) => *one == T::default(),
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Option<Vec<String>> {
        Some(list.iter().map(|item| (*item).to_owned()).collect())
    }

    #[test]
    fn what_counts_for_the_cache() {
        let one = ContainerConfig { cmd: words(&["a"]), hostname: "x".into(), ..ContainerConfig::default() };
        let two = ContainerConfig {
            cmd: words(&["a"]),
            image: "y".into(),
            env: Some(vec![]),
            ..ContainerConfig::default()
        };
        assert!(same_step(&one, &two));
        for other in [
            ContainerConfig { cmd: words(&["b"]), ..two.clone() },
            ContainerConfig { user: "u".into(), ..two.clone() },
            ContainerConfig { labels: Some([("a".into(), "b".into())].into()), ..two.clone() },
            ContainerConfig { healthcheck: Some(HealthConfig::default()), ..two.clone() },
        ] {
            assert!(!same_step(&one, &other));
        }
    }

    #[test]
    fn env_keeps_its_order() {
        let mut config = of_base(None);
        set_env(&mut config, "A", "1");
        set_env(&mut config, "PATH", "/x");
        set_env(&mut config, "A", "2");
        assert_eq!(config.env, words(&["PATH=/x", "A=2"]));
    }

    #[test]
    fn health_as_go_prints_it() {
        let health = HealthConfig {
            test: words(&["CMD", "a"]),
            interval: 30_000_000_000,
            retries: 3,
            ..Default::default()
        };
        assert_eq!(quote_health(&health), r#"&{["CMD" "a"] "30s" "0s" "0s" "0s" '\x03'}"#);
    }
}
