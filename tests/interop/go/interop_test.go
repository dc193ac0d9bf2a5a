package interop

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"sluice/interop/fake"
)

// runAgainst runs the cases against a fake store with one fault, or none.
func runAgainst(t *testing.T, fault, only string) (passed, failed int, output string) {
	t.Helper()
	store := fake.New(fault)
	addresses := []string{}
	for range 3 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Serve(listener).Stop)
		addresses = append(addresses, listener.Addr().String())
	}
	cluster, err := Connect(strings.Join(addresses, ","))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	var out bytes.Buffer
	passed, failed = cluster.Run(&out, only)
	return passed, failed, out.String()
}

func TestEveryCasePassesOnARightStore(t *testing.T) {
	passed, failed, output := runAgainst(t, "", "")
	if failed != 0 || passed != len(Cases()) {
		t.Errorf("%d passed, %d failed of %d\n%s", passed, failed, len(Cases()), output)
	}
}

func TestEachFaultIsCaught(t *testing.T) {
	for _, fault := range fake.Faults {
		t.Run(fault, func(t *testing.T) {
			_, failed, output := runAgainst(t, fault, "")
			if failed == 0 {
				t.Error("no case failed")
			}
			for _, line := range strings.Split(output, "\n") {
				if strings.HasPrefix(line, "FAIL") {
					t.Log(line)
				}
			}
		})
	}
}

func TestCaseNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, one := range Cases() {
		if seen[one.Name] {
			t.Errorf("two cases are called %s", one.Name)
		}
		seen[one.Name] = true
	}
}
