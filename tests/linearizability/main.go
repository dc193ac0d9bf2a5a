// Checks what clients of a cluster saw: is there one order of their calls, consistent with real time, that
// explains every answer? The checker is porcupine; the models are in model.go.
//
//	linearizability [-seconds 10] FILE.jsonl|FOLDER...
//
// Names and counters are checked one by one, each history within the given time. Exit code 1: a history that no
// order explains, or none was found. A check that takes too long is told, and is no failure.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// One line of a history (README.md).
type line struct {
	Call    int64  `json:"call"`
	Client  int    `json:"client"`
	Key     string `json:"key"`
	Op      string `json:"op"`
	Arg     string `json:"arg"`
	Invoke  int64  `json:"invoke"`
	Return  int64  `json:"return"`
	Outcome string `json:"outcome"`
	Reply   string `json:"reply"`
}

type history struct {
	counter    bool
	operations []porcupine.Operation
	kinds      map[string]*kind // of calls without an answer
	answered   int              // calls with one
	values     map[string]bool  // that answered additions
}

type kind struct {
	number, calls int
}

// What such a call is among the others (model.go). Histories are in the order of the calls' beginnings.
func (h *history) place(op, arg string) input {
	of := h.kinds[op+" "+arg]
	if of == nil {
		of = &kind{number: len(h.kinds)}
		h.kinds[op+" "+arg] = of
	}
	of.calls++
	return input{op: op, arg: arg, kind: of.number, nth: of.calls - 1}
}

// Operations by key. One that never ended ends after everything else.
func parse(in io.Reader) (map[string]*history, error) {
	byKey := map[string]*history{}
	lines := bufio.NewScanner(in)
	for number := 1; lines.Scan(); number++ {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("line %d: %v", number, err)
		}
		counter := l.Op == "add" || l.Op == "count"
		known := counter || l.Op == "put" || l.Op == "rm" || l.Op == "get"
		switch {
		case l.Key == "" || !known:
			return nil, fmt.Errorf("line %d: key %q, operation %q", number, l.Key, l.Op)
		case l.Outcome != "ok" && l.Outcome != "refused" && l.Outcome != "unknown":
			return nil, fmt.Errorf("line %d: outcome %q", number, l.Outcome)
		case l.Outcome != "unknown" && l.Return <= l.Invoke:
			return nil, fmt.Errorf("line %d: invoked at %d, returned at %d", number, l.Invoke, l.Return)
		}
		if l.Outcome == "refused" && l.Reply == "" {
			continue // it says nothing, and did nothing
		}
		if l.Outcome == "unknown" {
			l.Return = math.MaxInt64
		}
		each := byKey[l.Key]
		if each == nil {
			each = &history{counter: counter, kinds: map[string]*kind{}, values: map[string]bool{}}
			byKey[l.Key] = each
		}
		if each.counter != counter {
			return nil, fmt.Errorf("line %d: %q is a name and a counter", number, l.Key)
		}
		asked := input{op: l.Op, arg: l.Arg}
		if l.Outcome == "unknown" {
			asked = each.place(l.Op, l.Arg)
		} else {
			each.answered++
			if l.Op == "add" && l.Outcome == "ok" {
				each.values[l.Reply] = true
			}
		}
		each.operations = append(each.operations, porcupine.Operation{
			ClientId: l.Client, Input: asked, Call: l.Invoke,
			Output: output{l.Outcome, l.Reply}, Return: l.Return})
	}
	return byKey, lines.Err()
}

type result struct {
	operations int
	keys       int
	wrong      []string // keys
	undecided  []string
}

func check(byKey map[string]*history, patience time.Duration) result {
	var found result
	keys := make([]string, 0, len(byKey))
	for key := range byKey {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		each := byKey[key]
		model := nameModelOf(each.answered)
		if each.counter {
			model = counterModelOf(each.answered, each.values)
		}
		found.keys++
		found.operations += len(each.operations)
		switch porcupine.CheckOperationsTimeout(model, each.operations, patience) {
		case porcupine.Illegal:
			found.wrong = append(found.wrong, key)
		case porcupine.Unknown:
			found.undecided = append(found.undecided, key)
		}
	}
	return found
}

func files(arguments []string) ([]string, error) {
	var all []string
	for _, argument := range arguments {
		info, err := os.Stat(argument)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			all = append(all, argument)
			continue
		}
		inside, err := filepath.Glob(filepath.Join(argument, "*.jsonl"))
		if err != nil {
			return nil, err
		}
		all = append(all, inside...)
	}
	return all, nil
}

func main() {
	seconds := flag.Int("seconds", 10, "patience with one key of one history")
	flag.Parse()
	paths, err := files(flag.Args())
	if err != nil || len(paths) == 0 {
		fmt.Fprintf(os.Stderr, "linearizability: no history in %v: %v\n", flag.Args(), err)
		os.Exit(1)
	}
	var sum result
	for _, path := range paths {
		file, err := os.Open(path)
		if err == nil {
			var byKey map[string]*history
			byKey, err = parse(file)
			file.Close()
			found := check(byKey, time.Duration(*seconds)*time.Second)
			sum.operations += found.operations
			sum.keys += found.keys
			for _, key := range found.wrong {
				sum.wrong = append(sum.wrong, path+": "+key)
			}
			for _, key := range found.undecided {
				sum.undecided = append(sum.undecided, path+": "+key)
			}
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "linearizability: %s: %v\n", path, err)
			os.Exit(1)
		}
	}
	for _, each := range sum.wrong {
		fmt.Printf("NOT LINEARIZABLE  %s\n", each)
	}
	for _, each := range sum.undecided {
		fmt.Printf("undecided         %s\n", each)
	}
	fmt.Printf("%d histories, %d keys, %d operations: %d not linearizable, %d undecided\n",
		len(paths), sum.keys, sum.operations, len(sum.wrong), len(sum.undecided))
	if len(sum.wrong) > 0 {
		os.Exit(1)
	}
}
