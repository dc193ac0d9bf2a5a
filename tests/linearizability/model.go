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
}

// What it was told. Nothing, when the answer never came: then anything may have happened, at any time since.
type output struct {
	outcome string // ok, refused, unknown
	reply   string
}

// A name of an immutable store: absent, or bound to one content. Writing other bytes over it is refused.
type name struct {
	bound   bool
	content string
}

var nameModel = porcupine.Model{
	Init:              func() interface{} { return name{} },
	Step:              stepName,
	DescribeOperation: describe,
}

func stepName(state, in, out interface{}) (bool, interface{}) {
	now, asked, told := state.(name), in.(input), out.(output)
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

// A counter that answers each addition with what it has become.
var counterModel = porcupine.Model{
	Init:              func() interface{} { return int64(0) },
	Step:              stepCounter,
	DescribeOperation: describe,
}

func stepCounter(state, in, out interface{}) (bool, interface{}) {
	now, asked, told := state.(int64), in.(input), out.(output)
	switch asked.op {
	case "add":
		by, err := strconv.ParseInt(asked.arg, 10, 64)
		switch {
		case err != nil:
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
