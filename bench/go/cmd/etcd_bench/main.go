// etcd_bench measures 100-byte puts against three etcd servers of its own, and the building blocks beside them.
//
//	etcd_bench -dir build/bench-data
//
// The data lies in a temporary folder inside -dir, which should be on the disk that sluice is measured on. Prints one
// JSON object; times are in milliseconds.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"sluice/bench"
)

type result struct {
	PutsPerSecond   float64 `json:"etcd_puts_per_s"`
	P50             float64 `json:"etcd_p50_ms"`
	P99             float64 `json:"etcd_p99_ms"`
	SerialPerSecond float64 `json:"etcd_serial_puts_per_s"`
	SerialP50       float64 `json:"etcd_serial_p50_ms"`
	SerialP99       float64 `json:"etcd_serial_p99_ms"`
	AppendSyncP50   float64 `json:"append_sync_p50_ms"`
	AppendSyncP99   float64 `json:"append_sync_p99_ms"`
	RoundTripP50    float64 `json:"round_trip_p50_ms"`
	RoundTripP99    float64 `json:"round_trip_p99_ms"`
	InFlight        int     `json:"in_flight"`
	Connections     int     `json:"connections"`
	ValueBytes      int     `json:"value_bytes"`
}

type options struct {
	program, dir                      string
	inFlight, connections, valueBytes int
	duration                          time.Duration
}

func main() {
	// The servers are told to die with the thread that started them: it must be one that lives as long as we do.
	runtime.LockOSThread()
	var o options
	flag.StringVar(&o.program, "etcd", "etcd", "the etcd server program")
	flag.StringVar(&o.dir, "dir", ".", "folder for the data, on the disk to measure")
	flag.IntVar(&o.inFlight, "in-flight", 256, "puts outstanding at once")
	flag.IntVar(&o.connections, "connections", 8, "client connections")
	flag.IntVar(&o.valueBytes, "bytes", 100, "size of a value")
	flag.DurationVar(&o.duration, "time", 10*time.Second, "for how long each load runs; the rest takes a third of it")
	flag.Parse()
	measured, err := run(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcd_bench:", err)
		os.Exit(1)
	}
	out, _ := json.Marshal(measured)
	fmt.Println(string(out))
}

func run(o options) (*result, error) {
	folder, err := os.MkdirTemp(o.dir, "etcd-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	measured := &result{InFlight: o.inFlight, Connections: o.connections, ValueBytes: o.valueBytes}
	if err := measured.buildingBlocks(folder, o.duration/3); err != nil {
		return nil, err
	}
	etcd, err := bench.StartEtcd(o.program, folder)
	if err != nil {
		return nil, err
	}
	defer etcd.Stop()
	// Ctrl-C ends the servers too: they would die with this process, but their folder would stay.
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	clients, err := etcd.Connect(o.connections)
	if err != nil {
		return nil, err
	}
	defer func() { _ = bench.Close(clients) }()
	return measured, measured.puts(interrupted, clients, o)
}

func (r *result) buildingBlocks(folder string, duration time.Duration) error {
	appends, err := bench.SyncedAppends(folder, duration)
	if err != nil {
		return err
	}
	trips, err := bench.RoundTrips(duration)
	if err != nil {
		return err
	}
	r.AppendSyncP50, r.AppendSyncP99 = appends.Milliseconds(50), appends.Milliseconds(99)
	r.RoundTripP50, r.RoundTripP99 = trips.Milliseconds(50), trips.Milliseconds(99)
	return nil
}

func (r *result) puts(interrupted context.Context, clients []*clientv3.Client, o options) error {
	value := string(make([]byte, o.valueBytes))
	put := func(ctx context.Context, worker, turn int) error {
		if err := interrupted.Err(); err != nil {
			return err
		}
		key := fmt.Sprintf("key-%03d-%03d", worker, turn%1000)
		_, err := clients[worker%len(clients)].Put(ctx, key, value)
		return err
	}
	// Warm up: the first second of a connection is not typical.
	if _, _, err := bench.Load(o.inFlight, min(time.Second, o.duration/3), put); err != nil {
		return err
	}
	rate, times, err := bench.Load(o.inFlight, o.duration, put)
	if err != nil {
		return err
	}
	r.PutsPerSecond, r.P50, r.P99 = rate, times.Milliseconds(50), times.Milliseconds(99)
	rate, times, err = bench.Load(1, o.duration/3, put)
	if err != nil {
		return err
	}
	r.SerialPerSecond, r.SerialP50, r.SerialP99 = rate, times.Milliseconds(50), times.Milliseconds(99)
	return nil
}
