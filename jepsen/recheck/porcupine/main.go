// Re-checks the registers of a history (JSON lines, the `register` workload) with Porcupine, which shares nothing with the checkers here.
//
//	go run . HISTORY.jsonl...    prints "valid", "invalid" or "unknown" for each; exits 1 unless all are valid
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

type value struct {
	Key   json.RawMessage `json:"key"`
	Value json.RawMessage `json:"value"`
	Old   json.RawMessage `json:"old"`
	Errno string          `json:"errno"`
}

type event struct {
	Process json.RawMessage `json:"process"`
	Type    string          `json:"type"`
	F       string          `json:"f"`
	Value   json.RawMessage `json:"value"`
	Meta    json.RawMessage `json:"meta"`
}

type asked struct {
	f, old, value string
}

type seen struct {
	unknown bool
	errno   string
	value   string
}

const absent = "null"

func or(raw json.RawMessage, otherwise string) string {
	if len(raw) == 0 {
		return otherwise
	}
	return string(raw)
}

func step(state, input, output interface{}) (bool, interface{}) {
	now, in, out := state.(string), input.(asked), output.(seen)
	switch in.f {
	case "read":
		found := out.value
		if out.errno != "" {
			found = absent
		}
		return out.unknown || found == now, now
	case "write":
		return true, in.value
	}
	fits := map[string]bool{"cas": now == in.old, "create": now == absent, "replace": now != absent, "remove": now != absent}[in.f]
	after := in.value
	if in.f == "remove" {
		after = absent
	}
	if !fits {
		after = now
	}
	return out.unknown || fits == (out.errno == ""), after
}

func check(path string) (porcupine.CheckResult, error) {
	file, err := os.Open(path)
	if err != nil {
		return porcupine.Unknown, err
	}
	defer file.Close()
	type open struct {
		in   asked
		key  string
		from int64
	}
	pending := map[string]open{}
	keys := map[string][]porcupine.Operation{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<26)
	var now int64
	for ; lines.Scan(); now++ {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return porcupine.Unknown, fmt.Errorf("%s:%d: %w", path, now+1, err)
		}
		var v value
		if e.Meta != nil || string(e.Process) == `"nemesis"` || json.Unmarshal(e.Value, &v) != nil {
			continue
		}
		who := string(e.Process)
		if e.Type == "invoke" {
			otherwise := absent
			if e.F == "create" {
				otherwise = "true"
			}
			pending[who] = open{asked{e.F, or(v.Old, absent), or(v.Value, otherwise)}, string(v.Key), now}
		} else if e.Type != "info" {
			p := pending[who]
			delete(pending, who)
			if e.Type == "ok" {
				out := seen{errno: v.Errno, value: or(v.Value, absent)}
				keys[p.key] = append(keys[p.key], porcupine.Operation{Input: p.in, Call: p.from, Output: out, Return: now})
			}
		}
	}
	for _, p := range pending {
		keys[p.key] = append(keys[p.key], porcupine.Operation{Input: p.in, Call: p.from, Output: seen{unknown: true}, Return: now + 1})
	}
	model := porcupine.Model{Init: func() interface{} { return absent }, Step: step}
	for _, operations := range keys {
		if result := porcupine.CheckOperationsTimeout(model, operations, time.Minute); result != porcupine.Ok {
			return result, lines.Err()
		}
	}
	return porcupine.Ok, lines.Err()
}

func main() {
	code := 0
	for _, path := range os.Args[1:] {
		result, err := check(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(64)
		}
		name := map[porcupine.CheckResult]string{porcupine.Ok: "valid", porcupine.Illegal: "invalid", porcupine.Unknown: "unknown"}[result]
		fmt.Println(name, path)
		if result != porcupine.Ok {
			code = 1
		}
	}
	os.Exit(code)
}
