/**
 * Which partition a key belongs to: as the producers in Java and librdkafka's `murmur2_random` choose it, so that all who write to a topic agree.
 *
 * The hash is MurmurHash2 by Austin Appleby with Kafka's seed; test/brokers/kafka-parts.test.ts has the values that Kafka tests its own with.
 */
const seed = 0x9747b28c;
const multiplier = 0x5bd1e995;

export function partitionOf(key: Buffer, partitions: number): number {
  return (murmur2(key) & 0x7fffffff) % partitions;
}

export function murmur2(data: Buffer): number {
  const { length } = data;
  let hash = seed ^ length;
  let at = 0;
  for (; at + 4 <= length; at += 4) {
    let word = Math.imul(data.readInt32LE(at), multiplier);
    word ^= word >>> 24;
    hash = Math.imul(hash, multiplier) ^ Math.imul(word, multiplier);
  }
  if (at < length) {
    for (let i = length - 1; i >= at; i -= 1) hash ^= (data[i] ?? 0) << (8 * (i - at));
    hash = Math.imul(hash, multiplier);
  }
  hash ^= hash >>> 13;
  hash = Math.imul(hash, multiplier);
  return (hash ^ (hash >>> 15)) | 0;
}
