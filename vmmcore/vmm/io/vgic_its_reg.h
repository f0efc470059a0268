/*
 * Registers, commands and table entries of the interrupt translation service
 * (IHI 0069, 5 and 12.18 to 12.20). What the tables in guest memory look like
 * is our choice: entries of 8 bytes each.
 */
#ifndef VMM_IO_VGIC_ITS_REG_H
#define VMM_IO_VGIC_ITS_REG_H

#include "vmm/io/vgic_v3_reg.h"

#define ITS_SIZE 0x20000u /* control and translation frames */

#define GITS_CTLR 0x0000u
#define GITS_CTLR_ENABLED (1u << 0)
#define GITS_CTLR_QUIESCENT (1u << 31)
#define GITS_IIDR 0x0004u
#define GITS_TYPER 0x0008u
#define GITS_IMPDEF 0x0020u /* ours: the code of the last command that was ignored; any write: 0 */
#define GITS_CBASER 0x0080u
#define GITS_CWRITER 0x0088u
#define GITS_CWRITER_RETRY UINT64_C(1)
#define GITS_CREADR 0x0090u
#define GITS_CREADR_STALLED UINT64_C(1)
#define GITS_BASER 0x0100u
#define GITS_PIDR2 0xffe8u
#define GITS_TRANSLATER 0x10040u

#define ITS_ENTRY_SIZE 8u
#define ITS_ID_BITS 16u /* of EventIDs */
#define ITS_DEV_BITS 16u
/*
 * GITS_TYPER
 *	Physical	physical LPIs only
 *	ITT_entry_size	8
 *	ID_bits		16
 *	Devbits		16
 *	PTA 0		targets are processor numbers
 *	HCC 0, CIL 0	collections in memory, 16 bits
 */
#define GITS_TYPER_VALUE                                                                        \
	(UINT64_C(1) | ((uint64_t)ITS_ENTRY_SIZE - 1) << 4 | ((uint64_t)ITS_ID_BITS - 1) << 8 | \
	    ((uint64_t)ITS_DEV_BITS - 1) << 13)

#define ITS_VALID (UINT64_C(1) << 63)
#define ITS_ADDR UINT64_C(0x000ffffffffff000) /* bits 51 to 12 */

/* GITS_CBASER: Valid, cacheability and shareability, PA, Size in 4 KiB */
#define CBASER_MASK UINT64_C(0xb8effffffffffcff)
#define CBASER_SIZE(v) ((((v)&0xff) + 1) << 12)
#define ITS_CMD_SIZE 32u
#define ITS_QUEUE_OFF UINT64_C(0xfffe0)

/* GITS_BASER<n>: Type and Entry_Size are fixed */
#define BASER_INDIRECT (UINT64_C(1) << 62)
#define BASER_RO (UINT64_C(7) << 56 | UINT64_C(0x1f) << 48)
#define BASER_TYPE(t) ((uint64_t)(t) << 56 | ((uint64_t)ITS_ENTRY_SIZE - 1) << 48)
#define BASER_DEVICES 0
#define BASER_COLLECTIONS 1
#define BASER_PAGE(v) ((unsigned)((v) >> 8) & 3)
#define BASER_PAGES(v) (((v)&0xff) + 1)
#define BASER_ADDR UINT64_C(0x0000fffffffff000)
#define BASER_ADDR_64K UINT64_C(0x0000ffffffff0000)

/* GICR_PROPBASER, GICR_PENDBASER */
#define PROPBASER_MASK UINT64_C(0x070fffffffffff9f)
#define PENDBASER_MASK UINT64_C(0x470fffffffff0f80)
#define PENDBASER_PTZ (UINT64_C(1) << 62)
#define PENDBASER_ADDR UINT64_C(0x000fffffffff0000)
#define LPI_PROP_ENABLE 1u

/* Entries of the tables */
#define DTE_ITT UINT64_C(0x000fffffffffff00)
#define DTE_BITS(v) (((unsigned)(v)&0x1f) + 1) /* of EventID */
#define CTE_CPU(v) ((uint32_t)(v)&0xffff)
#define ITE_INTID(v) ((uint32_t)(v))
#define ITE_ICID(v) ((uint32_t)((v) >> 32) & 0xffff)
#define ITE(intid, icid) (ITS_VALID | (uint64_t)(icid) << 32 | (intid))

/* Fields of commands */
#define CMD_CODE(c) ((unsigned)(c)[0] & 0xff)
#define CMD_DEVICE(c) ((uint32_t)((c)[0] >> 32))
#define CMD_EVENT(c) ((uint32_t)(c)[1])
#define CMD_INTID(c) ((uint32_t)((c)[1] >> 32))
#define CMD_ITT_BITS(c) (((unsigned)(c)[1] & 0x1f) + 1)
#define CMD_ICID(c) ((uint32_t)(c)[2] & 0xffff)
#define CMD_CPU(dw) ((uint64_t)((dw) >> 16) & UINT64_C(0xffffffff))
#define CMD_VALID(c) (((c)[2] & ITS_VALID) != 0)
#define CMD_ITT(c) ((c)[2] & DTE_ITT)

/* Commands */
#define CMD_MOVI 0x01u
#define CMD_INT 0x03u
#define CMD_CLEAR 0x04u
#define CMD_SYNC 0x05u
#define CMD_MAPD 0x08u
#define CMD_MAPC 0x09u
#define CMD_MAPTI 0x0au
#define CMD_MAPI 0x0bu
#define CMD_INV 0x0cu
#define CMD_INVALL 0x0du
#define CMD_MOVALL 0x0eu
#define CMD_DISCARD 0x0fu
#define CMD_COUNT 0x10u

/*
 * Why a command was ignored: 0x01, the command, the reason, as the codes of
 * system errors are made (IHI 0069, 5.3). Or: a table cannot be reached, and
 * the queue stalls.
 */
#define ITS_ERROR(cmd, why) (UINT32_C(0x010000) | (cmd) << 8 | (unsigned)(why))
enum its_why {
	ITS_STALL = -1,
	ITS_OK = 0,
	ITS_DEVICE_OOR = 1,
	ITS_SIZE_OOR = 2, /* the number of events, or of the processor */
	ITS_COLLECTION_OOR = 3,
	ITS_UNMAPPED_DEVICE = 4,
	ITS_EVENT_OOR = 5,
	ITS_INTID_OOR = 6,
	ITS_UNMAPPED_INTERRUPT = 7,
	ITS_UNMAPPED_COLLECTION = 9,
	ITS_UNKNOWN = 0xff,
};

#endif /* VMM_IO_VGIC_ITS_REG_H */
