// Package tap prints results in the Test Anything Protocol, version 13.
//
// The validation programs of OCI runtime-tools import such a package from a place that Debian does
// not carry; `cargo xtask conformance` puts this one there. It has what they call, and no more.
package tap

import (
	"encoding/json"
	"fmt"
	"strings"
)

// T is one series of tests.
type T struct {
	// Shared with the series that Todo derives.
	count *int
	todo  bool
}

// New begins a series.
func New() *T { return &T{count: new(int)} }

// Todo gives the same series, whose failures are known and do not count.
func (t *T) Todo() *T { return &T{count: t.count, todo: true} }

// Header prints the version and, when the number of tests is known, the plan.
func (t *T) Header(planned int) {
	fmt.Println("TAP version 13")
	if planned > 0 {
		fmt.Printf("1..%d\n", planned)
	}
}

// AutoPlan prints the plan at the end, when it was not known before.
func (t *T) AutoPlan() { fmt.Printf("1..%d\n", *t.count) }

// Ok reports one test.
func (t *T) Ok(passed bool, description string) {
	*t.count++
	word := "ok"
	if !passed {
		word = "not ok"
	}
	fmt.Printf("%s %d - %s\n", word, *t.count, oneLine(description))
}

// Pass reports a test that passed.
func (t *T) Pass(description string) { t.Ok(true, description) }

// Fail reports a test that failed.
func (t *T) Fail(description string) { t.Ok(false, description) }

// Skip reports tests that cannot be run.
func (t *T) Skip(count int, description string) {
	for i := 0; i < count; i++ {
		*t.count++
		fmt.Printf("ok %d # SKIP %s\n", *t.count, oneLine(description))
	}
}

// Diagnostic prints lines that are not results.
func (t *T) Diagnostic(message string) {
	for _, line := range strings.Split(strings.TrimRight(message, "\n"), "\n") {
		fmt.Printf("# %s\n", line)
	}
}

// Diagnosticf is Diagnostic with a format.
func (t *T) Diagnosticf(format string, values ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, values...))
}

// YAML prints details of the last result. JSON is YAML.
func (t *T) YAML(details interface{}) error {
	text, err := json.MarshalIndent(details, "  ", "  ")
	if err != nil {
		return err
	}
	fmt.Printf("  ---\n  %s\n  ...\n", text)
	return nil
}

// A line break would end the result.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", " ") }
