/*
 * The plain reads and writes of virtio-blk, between a virtqueue and a file. All other
 * requests, and whatever about one of these is not plain, are left to devices/virtio/blk.py.
 */
#ifndef _VIRTIO_VIRTBLK_H_
#define _VIRTIO_VIRTBLK_H_

#include <stdbool.h>
#include <stdint.h>

#include "virtio/virtnet.h"

struct virtblk {
	int fd;
	uint64_t sectors; /* of 512 bytes */
	bool writes;      /* and no flush belongs to one */
	unsigned batch;   /* requests a call */
};

/* VIRTNET_EMPTY, _MORE, _BROKEN, _ABSENT; _LONG: the next request is not for this. */
int virtblk_serve(struct virtq *q, const struct virtblk *b);

#endif /* !_VIRTIO_VIRTBLK_H_ */
