package bench

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestMilliseconds(t *testing.T) {
	times := Latencies{}
	for i := 100; i >= 1; i-- {
		times = append(times, time.Duration(i)*time.Millisecond)
	}
	for percentile, want := range map[float64]float64{0: 1, 50: 51, 99: 100, 100: 100} {
		if got := times.Milliseconds(percentile); got != want {
			t.Errorf("p%v is %v ms, want %v", percentile, got, want)
		}
	}
	if got := (Latencies{}).Milliseconds(50); got != 0 {
		t.Errorf("p50 of nothing is %v", got)
	}
}

func TestLoadStopsAtTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	_, _, err := Load(4, time.Hour, func(ctx context.Context, worker, turn int) error {
		if worker == 2 && turn == 3 {
			return broken
		}
		return ctx.Err()
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestSyncedAppendsAndRoundTrips(t *testing.T) {
	appends, err := SyncedAppends(t.TempDir(), 50*time.Millisecond)
	if err != nil || len(appends) == 0 {
		t.Errorf("%d appends, %v", len(appends), err)
	}
	trips, err := RoundTrips(50 * time.Millisecond)
	if err != nil || len(trips) == 0 {
		t.Errorf("%d round trips, %v", len(trips), err)
	}
}
