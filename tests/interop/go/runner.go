package interop

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Cluster is what a case may use: the servers, and names that no other case and no earlier run has used.
type Cluster struct {
	Servers []*Server
	// Services must be listed by reflection, beside ByteStream, health and reflection itself.
	Services []string
	prefix   string
	readable sync.Once // the resource that the read cases share
	readErr  error
}

// Case is one named expectation.
type Case struct {
	Name string
	Run  func(*Cluster) error
}

// Cases lists everything, in the order in which it runs.
func Cases() []Case {
	cases := []Case{}
	cases = append(cases, transferCases()...)
	cases = append(cases, writeCases()...)
	cases = append(cases, resumeCases()...)
	cases = append(cases, readCases()...)
	cases = append(cases, nameCases()...)
	cases = append(cases, serviceCases()...)
	return cases
}

// Connect dials every address of a comma-separated list.
func Connect(addresses string) (*Cluster, error) {
	cluster := &Cluster{prefix: "interop-go/" + runID()}
	for _, address := range strings.Split(addresses, ",") {
		server, err := Dial(strings.TrimSpace(address))
		if err != nil {
			return nil, fmt.Errorf("address %q: %w", address, err)
		}
		cluster.Servers = append(cluster.Servers, server)
	}
	if len(cluster.Servers) < 2 {
		return nil, fmt.Errorf("got %d server addresses, need at least 2: what one server takes, another must give",
			len(cluster.Servers))
	}
	return cluster, nil
}

// Close closes the connections.
func (c *Cluster) Close() {
	for _, server := range c.Servers {
		_ = server.Conn.Close()
	}
}

// Run runs the cases whose name contains `only`, prints one line each, and gives how many passed and failed.
func (c *Cluster) Run(out io.Writer, only string) (passed, failed int) {
	for _, one := range Cases() {
		if !strings.Contains(one.Name, only) {
			continue
		}
		start := time.Now()
		err := one.Run(c)
		took := time.Since(start).Round(time.Millisecond)
		if err != nil {
			failed++
			fmt.Fprintf(out, "FAIL go/%s (%v): %v\n", one.Name, took, err)
			continue
		}
		passed++
		fmt.Fprintf(out, "ok   go/%s (%v)\n", one.Name, took)
	}
	return passed, failed
}

func (c *Cluster) name(suffix string) string { return c.prefix + "/" + suffix }

// first and second are two different servers.
func (c *Cluster) first() *Server  { return c.Servers[0] }
func (c *Cluster) second() *Server { return c.Servers[1] }

// everywhere runs one check at each server.
func (c *Cluster) everywhere(check func(*Server) error) error {
	for _, server := range c.Servers {
		if err := check(server); err != nil {
			return err
		}
	}
	return nil
}

func runID() string {
	id := make([]byte, 6)
	_, _ = rand.Read(id)
	return hex.EncodeToString(id)
}
