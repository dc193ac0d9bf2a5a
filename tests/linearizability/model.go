package main

import (
	"fmt"
	"strconv"

	"github.com/anishathalye/porcupine"
)

// What a client asked for.
type input struct {
	op  string // put, rm, get, add, count
	arg string // of a put: what stands for the bytes; of an add: by how much
	// Of a call without an answer: among those that ask for the same, in the order in which they were made. One
	// may take the place of another, so they take effect in this order: without that the checker would try
	// every choice among them, and they double it each.
	kind, nth int
}

// What it was told. Nothing, when the answer never came: then anything may have happened, at any time since.
type output struct {
	outcome string // ok, refused, unknown
	reply   string
}

// What a model stands at: the key itself, how many answered calls are still to come, and how many calls of each
// kind without an answer took effect.
type state struct {
	key  interface{}
	left int
	done string // one rune a kind
}

type step func(now interface{}, asked input, told output) (bool, interface{})

func modelOf(init interface{}, answered int, next step) porcupine.Model {
	return porcupine.Model{
		Init: func() interface{} { return state{key: init, left: answered} },
		Step: func(at, in, out interface{}) (bool, interface{}) {
			now, asked, told := at.(state), in.(input), out.(output)
			possible, key := next(now.key, asked, told)
			if told.outcome != "unknown" {
				return possible, state{key, now.left - 1, now.done}
			}
			if key == now.key && now.left > 0 {
				return false, now // it changes nothing here: it may as well come after all others
			}
			done := []rune(now.done)
			for len(done) <= asked.kind {
				done = append(done, 0)
			}
			if int(done[asked.kind]) != asked.nth {
				return false, now
			}
			done[asked.kind]++
			return possible, state{key, now.left, string(done)}
		},
		DescribeOperation: describe,
	}
}

// A name of an immutable store: absent, or bound to one content. Writing other bytes over it is refused.
type name struct {
	bound   bool
	content string
}

func nameModelOf(answered int) porcupine.Model { return modelOf(name{}, answered, stepName) }

func stepName(key interface{}, asked input, told output) (bool, interface{}) {
	now := key.(name)
	switch asked.op {
	case "put":
		free := !now.bound || now.content == asked.arg
		switch {
		case told.outcome == "ok":
			return free, name{true, asked.arg}
		case told.outcome == "refused":
			return told.reply != "exists" || !free, now
		case free: // it may take effect now; that it never does is that it does so after everything else
			return true, name{true, asked.arg}
		}
		return true, now
	case "rm":
		switch {
		case told.outcome == "refused":
			return true, now
		case told.outcome == "ok":
			return now.bound == (told.reply != "absent"), name{}
		}
		return true, name{}
	case "get":
		return now.bound == (told.reply != "") && (!now.bound || now.content == told.reply), now
	}
	return false, now
}

// A counter that answers each addition with what it has become. It only grows, so it becomes each value once:
// what was answered, nobody else made of it.
func counterModelOf(answered int, values map[string]bool) porcupine.Model {
	return modelOf(int64(0), answered, func(key interface{}, asked input, told output) (bool, interface{}) {
		possible, now := stepCounter(key, asked, told)
		return possible && !(told.outcome == "unknown" && values[fmt.Sprint(now)]), now
	})
}

func stepCounter(key interface{}, asked input, told output) (bool, interface{}) {
	now := key.(int64)
	switch asked.op {
	case "add":
		by, err := strconv.ParseInt(asked.arg, 10, 64)
		switch {
		case err != nil || by <= 0:
			return false, now
		case told.outcome == "refused":
			return true, now
		case told.outcome == "ok":
			return told.reply == fmt.Sprint(now+by), now + by
		}
		return true, now + by
	case "count":
		return told.reply == fmt.Sprint(now), now
	}
	return false, now
}

func describe(in, out interface{}) string {
	asked, told := in.(input), out.(output)
	return fmt.Sprintf("%s %s: %s %s", asked.op, asked.arg, told.outcome, told.reply)
}
