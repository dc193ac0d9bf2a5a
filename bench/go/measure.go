// Package bench measures what sluice's figures stand beside: etcd, one synced append, one loopback round trip.
package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"syscall"
	"time"
)

// Latencies are the times of single operations.
type Latencies []time.Duration

// Milliseconds gives a percentile (0 to 100) in milliseconds; 0 when nothing was measured.
func (l Latencies) Milliseconds(percentile float64) float64 {
	if len(l) == 0 {
		return 0
	}
	sorted := append(Latencies{}, l...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i] < sorted[j] })
	at := min(int(percentile/100*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[at].Nanoseconds()) / 1e6
}

// Load runs `operation` on `workers` goroutines until the time is over, and gives the rate per second and the times of
// those operations that ended in time. The first error ends it.
func Load(workers int, duration time.Duration, operation func(ctx context.Context, worker, turn int) error) (float64,
	Latencies, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var mutex sync.Mutex
	var all Latencies
	var failure error
	var group sync.WaitGroup
	start := time.Now()
	deadline := start.Add(duration)
	for worker := range workers {
		group.Go(func() {
			var mine Latencies
			for turn := 0; ; turn++ {
				before := time.Now()
				if err := operation(ctx, worker, turn); err != nil {
					mutex.Lock()
					if failure == nil {
						failure = err
					}
					mutex.Unlock()
					cancel()
					break
				}
				after := time.Now()
				if after.After(deadline) {
					break
				}
				mine = append(mine, after.Sub(before))
			}
			mutex.Lock()
			all = append(all, mine...)
			mutex.Unlock()
		})
	}
	group.Wait()
	if failure != nil {
		return 0, nil, failure
	}
	return float64(len(all)) / duration.Seconds(), all, nil
}

// SyncedAppends appends 4 KiB to a growing file and syncs it, over and over.
func SyncedAppends(folder string, duration time.Duration) (Latencies, error) {
	path := filepath.Join(folder, "synced-appends")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer os.Remove(path)
	defer file.Close()
	block := make([]byte, 4096)
	for i := range block {
		block[i] = byte(i * 7)
	}
	_, times, err := Load(1, duration, func(context.Context, int, int) error {
		if _, err := file.Write(block); err != nil {
			return err
		}
		return syscall.Fdatasync(int(file.Fd()))
	})
	return times, err
}

// RoundTrips sends 64 bytes over loopback TCP and waits for them to come back, over and over.
func RoundTrips(duration time.Duration) (Latencies, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}, make([]byte, 64))
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	message := make([]byte, 64)
	_, times, err := Load(1, duration, func(context.Context, int, int) error {
		if _, err := conn.Write(message); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, message)
		return err
	})
	return times, err
}

// FreePorts finds ports on loopback that nobody listens on now.
func FreePorts(count int) ([]int, error) {
	ports := []int{}
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("no free port: %w", err)
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
