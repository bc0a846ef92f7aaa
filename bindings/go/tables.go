// Histograms, gauges and top keys.

package mapring

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"time"
)

// readBank copies words of a shard's bank into private memory. By system call each is the median of three lookups.
func (a *access) readBank(shard, at uint64, words []uint64) error {
	element := a.bankAt(shard)
	if a.lookups == nil {
		a.mem.copy(words, element*a.size/8+at)
		return nil
	}
	if !a.lookup(element) {
		return a.takeErr()
	}
	for i := range words {
		words[i] = a.lookups.median(0, at+uint64(i))
	}
	return nil
}

// index checks the index of a histogram, gauge or bucket.
func (t *table) index(index int) error {
	if index < 0 || index >= int(t.a.capacity) {
		return failf(ErrOutOfRange, "no %s %d in %s: there are %d", t.a.kind, index, t.a.what, t.a.capacity)
	}
	return nil
}

// Histogram is a copy of a histogram: the number of values in each bucket.
type Histogram [histogramBuckets]uint64

// Histograms are histograms with a bank for each CPU. Safe for use by several goroutines.
type Histograms struct{ table }

// OpenHistograms opens histograms.
func OpenHistograms(source Source) (*Histograms, error) {
	h := new(Histograms)
	return opened(h, h.open(source, KindHistograms))
}

// Len is the number of histograms.
func (h *Histograms) Len() int { return int(h.a.capacity) }

// Read copies a histogram: the sum over all CPUs.
func (h *Histograms) Read(index int) (*Histogram, error) {
	if err := h.index(index); err != nil {
		return nil, err
	}
	sum, words := new(Histogram), make([]uint64, histogramBuckets)
	if err := h.begin(); err != nil {
		return nil, err
	}
	defer h.end()
	for shard := range h.a.shards {
		if err := h.a.readBank(shard, uint64(index)*histogramBytes/8, words); err != nil {
			return nil, err
		}
		for i, count := range words {
			sum[i] += count
		}
	}
	return sum, nil
}

// Bucket is the number of the bucket that counts a value.
func Bucket(value uint64) int {
	shift := bits.Len64(value >> 4)
	return 8*shift + int(value>>shift)
}

// BucketRange is the smallest and the largest value of a bucket.
func BucketRange(bucket int) (first, last uint64) {
	if bucket < 16 {
		return uint64(bucket), uint64(bucket)
	}
	shift := bucket/8 - 1
	first = uint64(bucket-8*shift) << shift
	return first, first + 1<<shift - 1
}

// Count is the number of values.
func (h *Histogram) Count() (sum uint64) {
	for _, count := range h {
		sum += count
	}
	return sum
}

// Percentile is the range that has the exact percentile of the values: at most 12.5 % wide, and one value below 16. It is false
// for a histogram without values.
func (h *Histogram) Percentile(percent float64) (first, last uint64, ok bool) {
	count := h.Count()
	rank := uint64(math.Ceil(min(max(percent, 0), 100) / 100 * float64(count)))
	for bucket, values := range h {
		if values >= max(rank, 1) {
			first, last = BucketRange(bucket)
			return first, last, true
		}
		rank -= min(values, rank)
	}
	return 0, 0, false
}

// Since is what was added after an earlier copy.
func (h *Histogram) Since(earlier *Histogram) *Histogram {
	more := new(Histogram)
	for i := range h {
		more[i] = h[i] - earlier[i]
	}
	return more
}

// WindowLength is the length of a gauge's window.
const WindowLength = time.Duration(1 << 20)

// Window is the smallest and the largest value that programs set in one window of time.
type Window struct {
	Number         uint64 // it begins at Number × WindowLength of CLOCK_MONOTONIC
	Least, Largest uint64
}

// Gauges are gauges with a bank for each CPU. Safe for use by several goroutines.
type Gauges struct{ table }

// OpenGauges opens gauges.
func OpenGauges(source Source) (*Gauges, error) {
	g := new(Gauges)
	return opened(g, g.open(source, KindGauges))
}

// Len is the number of gauges.
func (g *Gauges) Len() int { return int(g.a.capacity) }

// Windows are the windows of about the last second in which programs set a gauge, of all CPUs together, in order.
func (g *Gauges) Windows(index int) ([]Window, error) {
	if err := g.index(index); err != nil {
		return nil, err
	}
	found := map[uint64]Window{}
	least, largest := make([]uint64, 2*gaugeWindows), make([]uint64, 2*gaugeWindows)
	if err := g.begin(); err != nil {
		return nil, err
	}
	defer g.end()
	for shard := range g.a.shards {
		// The smallest values first, and then the largest ones.
		for _, words := range [][]uint64{least, largest} {
			if err := g.a.readBank(shard, uint64(index)*gaugeBytes/8, words); err != nil {
				return nil, err
			}
		}
		for place := range uint64(gaugeWindows) {
			low, high := least[2*place+1], largest[2*place]
			if low>>gaugeBits == 0 || low>>gaugeBits != high>>gaugeBits {
				continue
			}
			w := Window{(low>>gaugeBits-1)*gaugeWindows + place, gaugeMax - low&gaugeMax, high & gaugeMax}
			if other, ok := found[w.Number]; ok {
				w.Least, w.Largest = min(w.Least, other.Least), max(w.Largest, other.Largest)
			}
			found[w.Number] = w
		}
	}
	windows := make([]Window, 0, len(found))
	for _, window := range found {
		windows = append(windows, window)
	}
	slices.SortFunc(windows, func(a, b Window) int { return cmp.Compare(a.Number, b.Number) })
	return windows, nil
}

// Words of a bucket after its sequence.
const topWords = bucketBytes / 8

// TopKey is a key with the bounds of the sum that was added to it.
type TopKey struct {
	Key, Least, Most uint64
}

// TopKeys are the keys with the largest sums, with a shard for each CPU. Safe for use by several goroutines.
type TopKeys struct{ table }

// OpenTopKeys opens top keys.
func OpenTopKeys(source Source) (*TopKeys, error) {
	t := new(TopKeys)
	return opened(t, t.open(source, KindTopKeys))
}

// Largest lists the keys that are in a bucket, the largest first, at most n of them. No key that is in no bucket has more than
// `unlisted`. Total is the sum that was added to all keys.
func (t *TopKeys) Largest(n int) (keys []TopKey, unlisted, total uint64, err error) {
	for bucket := range t.a.capacity {
		shards, err := t.buckets(bucket)
		if err != nil {
			return nil, 0, 0, err
		}
		seen, other := map[uint64]bool{}, uint64(0)
		for _, words := range shards {
			_, most := bounds(words, nil)
			other += most
			total += words[topOther-1]
			for way := range topWays {
				key, count := words[topKeys-1+way], words[topCounts-1+way]
				if total += count; count == 0 || seen[key] {
					continue
				}
				seen[key] = true
				top := TopKey{Key: key}
				for _, words := range shards {
					least, most := bounds(words, &key)
					top.Least, top.Most = top.Least+least, top.Most+most
				}
				keys = append(keys, top)
			}
		}
		unlisted = max(unlisted, other)
	}
	slices.SortFunc(keys, func(a, b TopKey) int { return cmp.Or(cmp.Compare(b.Most, a.Most), cmp.Compare(a.Key, b.Key)) })
	return keys[:min(max(n, 0), len(keys))], unlisted, total, nil
}

// buckets copies one bucket of each shard.
func (t *TopKeys) buckets(bucket uint64) ([][]uint64, error) {
	if err := t.begin(); err != nil {
		return nil, err
	}
	defer t.end()
	shards := make([][]uint64, t.a.shards)
	for shard := range shards {
		words := make([]uint64, topWords)
		at := spot{at: (t.a.bankAt(uint64(shard)) + bucket) * t.a.size / 8}
		whole := false
		for try := 0; try < retries && !whole; try++ {
			_, whole = t.a.readSeq(at, false, words)
			if err := t.a.takeErr(); err != nil {
				return nil, err
			}
		}
		if !whole {
			return nil, failf(ErrBusy, "a writer was in bucket %d of %s at each of %d tries: it is slow, or died; read it again", bucket,
				t.a.what, retries)
		}
		shards[shard] = words
	}
	return shards, nil
}

// bounds are those of a key in one bucket, or of a key that is not in it.
func bounds(words []uint64, key *uint64) (least, most uint64) {
	smallest := words[topCounts-1]
	for way := range topWays {
		count := words[topCounts-1+way]
		smallest = min(smallest, count)
		if key != nil && words[topKeys-1+way] == *key && count != 0 {
			return count - words[topErrors-1+way], count + words[topOther-1]
		}
	}
	return 0, smallest + words[topOther-1]
}

// String is `1000 values, p50 16 to 17, p99 120 to 127`.
func (h *Histogram) String() string {
	text := fmt.Sprintf("%d values", h.Count())
	for _, percent := range []float64{50, 99} {
		if first, last, ok := h.Percentile(percent); ok {
			text += fmt.Sprintf(", p%.0f %d to %d", percent, first, last)
		}
	}
	return text
}
