//! What a container takes from its image where the request says nothing; Docker's rules.

use std::collections::BTreeMap;

use seacow_spec::docker::container::ContainerConfig;

use super::invalid::Invalid;

/// Fills `config` from `image` and checks that there is something to run.
///
/// # Errors
/// Neither names a command.
pub(crate) fn merge(config: &mut ContainerConfig, image: &ContainerConfig) -> Result<(), Invalid> {
    fill(&mut config.user, &image.user);
    fill(&mut config.working_dir, &image.working_dir);
    merge_map(&mut config.exposed_ports, image.exposed_ports.as_ref());
    merge_map(&mut config.volumes, image.volumes.as_ref());
    merge_map(&mut config.labels, image.labels.as_ref());
    merge_env(&mut config.env, image.env.as_deref().unwrap_or_default());
    if is_empty(config.entrypoint.as_ref()) {
        if is_empty(config.cmd.as_ref()) {
            config.cmd.clone_from(&image.cmd);
            config.args_escaped = image.args_escaped;
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if config.stop_signal.as_deref().unwrap_or_default().is_empty() {
        config.stop_signal.clone_from(&image.stop_signal);
    }
    if config.stop_timeout.is_none() {
        config.stop_timeout = image.stop_timeout;
    }
    if config.shell.is_none() {
        config.shell.clone_from(&image.shell);
    }
    if config.healthcheck.as_ref().is_none_or(|check| is_empty(check.test.as_ref())) {
        config.healthcheck.clone_from(&image.healthcheck);
    }
    // `--entrypoint ""` takes the image's away.
    if config.entrypoint.as_ref().is_some_and(|words| words.len() == 1 && words[0].is_empty()) {
        config.entrypoint = None;
    }
    if is_empty(config.entrypoint.as_ref()) && is_empty(config.cmd.as_ref()) {
        return Err(Invalid::NoCommand);
    }
    Ok(())
}

fn is_empty(words: Option<&Vec<String>>) -> bool {
    words.is_none_or(Vec::is_empty)
}

fn fill(value: &mut String, default: &str) {
    if value.is_empty() {
        default.clone_into(value);
    }
}

fn merge_map<V: Clone>(map: &mut Option<BTreeMap<String, V>>, image: Option<&BTreeMap<String, V>>) {
    if let Some(image) = image.filter(|image| !image.is_empty()) {
        let own = map.get_or_insert_default();
        for (key, value) in image {
            own.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// The request's variables first, then those of the image it does not name.
fn merge_env(env: &mut Option<Vec<String>>, image: &[String]) {
    if image.is_empty() {
        return;
    }
    let own = env.get_or_insert_default();
    let named: Vec<String> = own.iter().map(|entry| key(entry).to_owned()).collect();
    own.extend(image.iter().filter(|entry| !named.iter().any(|name| name == key(entry))).cloned());
}

fn key(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Option<Vec<String>> {
        Some(text.split_whitespace().map(str::to_owned).collect())
    }

    fn image() -> ContainerConfig {
        ContainerConfig {
            entrypoint: words("/entry"),
            cmd: words("serve now"),
            env: words("PATH=/bin A=image"),
            working_dir: "/app".into(),
            ..Default::default()
        }
    }

    #[test]
    fn nothing_said_takes_everything() {
        let mut config = ContainerConfig::default();
        merge(&mut config, &image()).unwrap();
        assert_eq!((config.entrypoint, config.cmd), (words("/entry"), words("serve now")));
        assert_eq!((config.env, config.working_dir.as_str()), (words("PATH=/bin A=image"), "/app"));
    }

    #[test]
    fn a_command_keeps_the_entrypoint_an_entrypoint_drops_the_command() {
        let mut config = ContainerConfig { cmd: words("other"), ..Default::default() };
        merge(&mut config, &image()).unwrap();
        assert_eq!((config.entrypoint, config.cmd), (words("/entry"), words("other")));
        let mut config = ContainerConfig { entrypoint: words("sh"), ..Default::default() };
        merge(&mut config, &image()).unwrap();
        assert_eq!((config.entrypoint, config.cmd), (words("sh"), None));
    }

    #[test]
    fn an_empty_entrypoint_takes_the_image_s_away() {
        let reset = Some(vec![String::new()]);
        let mut config =
            ContainerConfig { entrypoint: reset.clone(), cmd: words("ls"), ..Default::default() };
        merge(&mut config, &image()).unwrap();
        assert_eq!((config.entrypoint, config.cmd), (None, words("ls")));
        let mut config = ContainerConfig { entrypoint: reset, ..Default::default() };
        assert_eq!(merge(&mut config, &image()), Err(Invalid::NoCommand));
    }

    #[test]
    fn variables_of_the_request_win() {
        let mut config = ContainerConfig { env: words("A=own B"), ..Default::default() };
        merge(&mut config, &image()).unwrap();
        assert_eq!(config.env, words("A=own B PATH=/bin"));
    }
}
