package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func wrongKeys(t *testing.T, text string) []string {
	t.Helper()
	byKey, err := parse(strings.NewReader(strings.TrimSpace(text)))
	if err != nil {
		t.Fatal(err)
	}
	found := check(byKey, 10*time.Second)
	if len(found.undecided) > 0 {
		t.Fatalf("undecided: %v", found.undecided)
	}
	return found.wrong
}

// A checker that finds nothing wrong with these checks nothing.
func TestWrongHistoriesAreFound(t *testing.T) {
	for what, text := range map[string]string{
		"a read that misses an acknowledged put": `
			{"key":"a","op":"put","arg":"x","invoke":1,"return":2,"outcome":"ok"}
			{"key":"a","op":"get","invoke":3,"return":4,"outcome":"ok"}`,
		"a read of what nobody wrote": `
			{"key":"a","op":"put","arg":"x","invoke":1,"return":2,"outcome":"ok"}
			{"key":"a","op":"get","invoke":3,"return":4,"outcome":"ok","reply":"y"}`,
		"other bytes over a name that is bound": `
			{"key":"a","op":"put","arg":"x","invoke":1,"return":2,"outcome":"ok"}
			{"key":"a","op":"put","arg":"y","invoke":3,"return":4,"outcome":"ok"}`,
		"a put refused for a name that is free": `
			{"key":"a","op":"put","arg":"x","invoke":3,"return":4,"outcome":"refused","reply":"exists"}`,
		// The two puts cannot both stand before the removal: it was executed twice.
		"a removal that takes somebody else's put too": `
			{"key":"a","op":"put","arg":"x","invoke":1,"return":2,"outcome":"ok"}
			{"key":"a","op":"rm","invoke":3,"return":4,"outcome":"ok"}
			{"key":"a","op":"put","arg":"x","invoke":5,"return":6,"outcome":"ok"}
			{"key":"a","op":"get","invoke":7,"return":8,"outcome":"ok"}`,
		"a removal that says there was nothing": `
			{"key":"a","op":"put","arg":"x","invoke":1,"return":2,"outcome":"ok"}
			{"key":"a","op":"rm","invoke":3,"return":4,"outcome":"ok","reply":"absent"}`,
		"reads that go back": `
			{"key":"a","op":"put","arg":"x","invoke":1,"return":9,"outcome":"ok"}
			{"key":"a","op":"get","invoke":2,"return":3,"outcome":"ok","reply":"x"}
			{"key":"a","op":"get","invoke":4,"return":5,"outcome":"ok"}`,
		"an addition that was executed twice": `
			{"key":"c","op":"add","arg":"1","invoke":1,"return":2,"outcome":"ok","reply":"1"}
			{"key":"c","op":"add","arg":"1","invoke":3,"return":4,"outcome":"ok","reply":"3"}`,
		"one answer for two additions": `
			{"key":"c","op":"add","arg":"1","invoke":1,"return":4,"outcome":"ok","reply":"1"}
			{"key":"c","op":"add","arg":"1","invoke":2,"return":3,"outcome":"ok","reply":"1"}`,
		"a count that misses an addition": `
			{"key":"c","op":"add","arg":"1","invoke":1,"return":2,"outcome":"ok","reply":"1"}
			{"key":"c","op":"count","invoke":3,"return":4,"outcome":"ok","reply":"0"}`,
	} {
		if wrong := wrongKeys(t, text); len(wrong) != 1 {
			t.Errorf("%s: found %v", what, wrong)
		}
	}
}

func TestRightHistoriesPass(t *testing.T) {
	for what, text := range map[string]string{
		"an unknown put that shows late": `
			{"key":"a","op":"put","arg":"x","invoke":1,"outcome":"unknown"}
			{"key":"a","op":"get","invoke":2,"return":3,"outcome":"ok"}
			{"key":"a","op":"get","invoke":4,"return":5,"outcome":"ok","reply":"x"}`,
		"an unknown put that never shows": `
			{"key":"a","op":"put","arg":"x","invoke":1,"outcome":"unknown"}
			{"key":"a","op":"put","arg":"y","invoke":2,"return":3,"outcome":"ok"}
			{"key":"a","op":"get","invoke":4,"return":5,"outcome":"ok","reply":"y"}`,
		"the same bytes again": `
			{"key":"a","op":"put","arg":"x","invoke":1,"return":2,"outcome":"ok"}
			{"key":"a","op":"put","arg":"x","invoke":3,"return":4,"outcome":"ok"}`,
		"a removal between": `
			{"key":"a","op":"put","arg":"x","invoke":1,"return":2,"outcome":"ok"}
			{"key":"a","op":"rm","invoke":3,"return":4,"outcome":"ok"}
			{"key":"a","op":"rm","invoke":5,"return":6,"outcome":"ok","reply":"absent"}
			{"key":"a","op":"put","arg":"y","invoke":7,"return":8,"outcome":"ok"}`,
		"additions beside each other, one of them unanswered": `
			{"key":"c","op":"add","arg":"1","invoke":1,"return":5,"outcome":"ok","reply":"3"}
			{"key":"c","op":"add","arg":"1","invoke":2,"return":4,"outcome":"ok","reply":"1"}
			{"key":"c","op":"add","arg":"1","invoke":3,"outcome":"unknown"}
			{"key":"c","op":"count","invoke":6,"return":7,"outcome":"ok","reply":"3"}`,
	} {
		if wrong := wrongKeys(t, text); len(wrong) != 0 {
			t.Errorf("%s: found %v", what, wrong)
		}
	}
}

// Many calls without an answer beside others with one: else each choice among them would be tried.
func TestManyCallsWithoutAnAnswerAreDecided(t *testing.T) {
	var text strings.Builder
	for i := 0; i < 40; i++ {
		fmt.Fprintf(&text, `{"key":"c","op":"add","arg":"1","invoke":%d,"outcome":"unknown"}`+"\n", i)
		op := []string{`"op":"rm"`, `"op":"put","arg":"x"`}[i%2]
		fmt.Fprintf(&text, `{"key":"a",%s,"invoke":%d,"outcome":"unknown"}`+"\n", op, i)
	}
	for i := 0; i < 20; i++ {
		reply := []string{`,"reply":"x"`, ""}[i%2]
		fmt.Fprintf(&text, `{"key":"a","op":"get","invoke":%d,"return":%d,"outcome":"ok"%s}`+"\n", 100+2*i, 103+2*i, reply)
		fmt.Fprintf(&text, `{"key":"c","op":"add","arg":"1","invoke":%d,"return":%d,"outcome":"ok","reply":"%d"}`+"\n",
			100+i, 200+i, 1+i*7%20)
	}
	if wrong := wrongKeys(t, text.String()); len(wrong) != 0 {
		t.Errorf("found %v", wrong)
	}
	// The same, and one answer too many.
	text.WriteString(`{"key":"c","op":"add","arg":"1","invoke":300,"return":301,"outcome":"ok","reply":"20"}`)
	if wrong := wrongKeys(t, text.String()); len(wrong) != 1 {
		t.Errorf("found %v", wrong)
	}
}

func TestLinesThatMakeNoSenseAreRefused(t *testing.T) {
	for _, text := range []string{
		`{"key":"a","op":"swap","invoke":1,"return":2,"outcome":"ok"}`,
		`{"op":"get","invoke":1,"return":2,"outcome":"ok"}`,
		`{"key":"a","op":"get","invoke":1,"return":2,"outcome":"perhaps"}`,
		`{"key":"a","op":"get","invoke":2,"return":2,"outcome":"ok"}`,
		`{"key":"a"`,
		"{\"key\":\"a\",\"op\":\"get\",\"invoke\":1,\"return\":2,\"outcome\":\"ok\"}\n" +
			`{"key":"a","op":"count","invoke":3,"return":4,"outcome":"ok","reply":"0"}`,
	} {
		if _, err := parse(strings.NewReader(text)); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}
