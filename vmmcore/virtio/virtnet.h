/*
 * The data path of virtio-net: frames between two virtqueues and a descriptor with
 * one frame a read or write (devices/netback.py). What a card is, when queues may be
 * worked on and when the driver is interrupted stays in devices/virtio.
 */
#ifndef _VIRTIO_VIRTNET_H_
#define _VIRTIO_VIRTNET_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* RAM of the guest in this process. */
struct virtq_ram {
	uint64_t gpa, len;
	void *base;
	const uint8_t *present; /* a byte for each chunk: is it allocated? NULL: all are */
	uint64_t offset;        /* of base from where the chunks begin */
	uint64_t chunk;
	bool writable;
};

/* A queue. Its rings were checked, and are in RAM that is allocated. */
struct virtq {
	const struct virtq_ram *ram;
	unsigned nram;
	uint64_t desc, avail, used;
	uint32_t num;
	bool event_idx, indirect;
	uint16_t last_avail, used_idx;
	uint16_t shown;  /* used_idx as the driver sees it */
	const char *why; /* what is wrong with a chain or with the ring */
	uint64_t absent_gpa, absent_len;
	bool absent_write;
};

struct virtnet {
	int fd;
	size_t note;      /* bytes of the back end's header in front of a frame: 0 or 10 */
	size_t header;    /* of the driver's: 10 or 12 */
	size_t frame_max; /* the longest frame that may come */
	unsigned batch;   /* frames a call */
	unsigned wait_ms; /* a full pipe is waited for so long */
	bool mergeable;
	bool checksums;    /* the driver's own header counts */
	bool guest_csum;   /* its header may say something of checksums */
	uint8_t guest_gso; /* bit n: and gso_type n */
	/* Out: */
	unsigned frames, lost, bad;
};

enum virtnet_result {
	VIRTNET_EMPTY,  /* the queue is; the driver will tell */
	VIRTNET_IDLE,   /* nothing comes from the network */
	VIRTNET_MORE,   /* the batch is done */
	VIRTNET_BROKEN, /* the queue is: q->why */
	VIRTNET_ABSENT, /* q->absent_*: allocate, and come again */
	VIRTNET_TURN,   /* there is more, but others should have a turn */
	VIRTNET_LONG,   /* the next chain has too many pieces for this */
};

/* Frames of the driver's to the network. */
int virtnet_send(struct virtq *q, struct virtnet *n);
/* Frames from the network into the driver's buffers. */
int virtnet_receive(struct virtq *q, struct virtnet *n);

#endif /* !_VIRTIO_VIRTNET_H_ */
