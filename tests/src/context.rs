//! A directory to build from.

use std::path::PathBuf;

use crate::{Done, Engine};

/// A build context, in the engine's own directory and gone with it.
pub struct Context<'a> {
    engine: &'a Engine,
    /// Where it lies.
    pub dir: PathBuf,
}

impl<'a> Context<'a> {
    /// An empty one.
    pub fn new(engine: &'a Engine) -> Self {
        let dir = engine.exec_root().join("context");
        std::fs::create_dir_all(&dir).unwrap();
        Self { engine, dir }
    }

    /// Puts a file there, and the directories that lead to it.
    pub fn file(&self, name: &str, text: &str) -> &Self {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// `docker build`.
    pub fn build(&self, args: &[&str]) -> Done {
        let dir = self.dir.display().to_string();
        self.engine.docker(&[&["build"], args, &[&dir]].concat())
    }

    /// `seacow build`, with a cache of the client's own and these variables.
    pub fn own_build(&self, args: &[&str], env: &[(&str, &str)]) -> Done {
        let dir = self.dir.display().to_string();
        let mut command = self.engine.seacow_command(&[&["build"], args, &[&dir]].concat());
        command.env("XDG_CACHE_HOME", self.engine.exec_root().join("cache"));
        command.envs(env.iter().copied());
        Done::run(&mut command)
    }

    /// What a script says in the image `x`.
    pub fn run(&self, script: &str) -> String {
        self.engine.docker(&["run", "--rm", "x", "sh", "-c", script]).ok()
    }
}
