//! Interactive use, in a real terminal.

use seacow_tests::{Engine, Terminal};

#[test]
fn a_shell_with_echo_size_and_exit_status() {
    let engine = Engine::start();
    let terminal = Terminal::run(engine.name(), &engine.docker_command(&["run", "-it", "--rm", "bb", "sh"]));
    terminal.shows("/ #");
    // The client tells the size when the shell runs already.
    terminal.type_text("until stty size | grep '[2]4 80'; do sleep 0.05; done; tty");
    terminal.press("Enter");
    terminal.shows("24 80");
    terminal.shows("/dev/pts/0");
    terminal.resize(100, 30);
    // The pattern is not what it finds: the screen shows both.
    terminal.type_text("until stty size | grep '[3]0 100'; do sleep 0.05; done");
    terminal.press("Enter");
    terminal.shows("30 100");
    // While the shell edits its line, ^C is a character. Only when it has gone over to what it was
    // told is it a signal: one that comes together with Enter would wait unread for 1000 s.
    terminal.type_text("echo r''eady; sleep 1000");
    terminal.press("Enter");
    terminal.shows("ready");
    terminal.press("C-c");
    // With the signal the kernel throws away what was typed and not read.
    terminal.shows("^C\n/ #");
    terminal.type_text("exit 5");
    terminal.press("Enter");
    terminal.shows("[exit 5]");
}

#[test]
fn detach_and_attach_again() {
    let engine = Engine::start();
    let terminal =
        Terminal::run(engine.name(), &engine.docker_command(&["run", "-it", "--name", "box", "bb", "sh"]));
    terminal.shows("/ #");
    terminal.press("C-p");
    terminal.press("C-q");
    terminal.shows("[exit 0]");
    assert_eq!(engine.inspect("box", "{{.State.Running}}"), "true");
    drop(terminal);
    let terminal = Terminal::run(engine.name(), &engine.docker_command(&["attach", "box"]));
    terminal.press("Enter");
    terminal.shows("/ #");
    terminal.type_text("exit 8");
    terminal.press("Enter");
    terminal.shows("[exit 8]");
}

#[test]
fn exec_with_a_terminal() {
    let engine = Engine::start();
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    let terminal = Terminal::run(engine.name(), &engine.docker_command(&["exec", "-it", "box", "sh"]));
    terminal.shows("/ #");
    terminal.type_text("stty size");
    terminal.press("Enter");
    terminal.shows("24 80");
    terminal.type_text("exit 4");
    terminal.press("Enter");
    terminal.shows("[exit 4]");
}

#[test]
fn our_own_client_in_a_terminal() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let terminal =
        Terminal::run(engine.name(), &engine.seacow_command(&["run", "-it", "--name", "box", "bb", "sh"]));
    terminal.shows("/ #");
    terminal.type_text("stty size");
    terminal.press("Enter");
    terminal.shows("24 80");
    terminal.resize(90, 28);
    terminal.type_text("until stty size | grep '[2]8 90'; do sleep 0.05; done");
    terminal.press("Enter");
    terminal.shows("28 90");
    terminal.press("C-p");
    terminal.press("C-q");
    terminal.shows("[exit 0]");
    drop(terminal);
    let terminal = Terminal::run(engine.name(), &engine.seacow_command(&["attach", "box"]));
    terminal.press("Enter");
    terminal.shows("/ #");
    terminal.type_text("exit 3");
    terminal.press("Enter");
    terminal.shows("[exit 3]");
}
