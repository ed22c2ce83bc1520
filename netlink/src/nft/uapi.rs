//! Numbers of linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h and linux/netlink.h.
//!
//! The names are the kernel's, without the prefixes `NFTA_` and `NFT_`.

/// Declares `u16` attribute numbers.
macro_rules! attributes {
    ($($name:ident = $value:expr),+ $(,)?) => { $(pub const $name: u16 = $value;)+ };
}

// linux/netlink.h
pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;
pub const NLM_F_REQUEST: u16 = 0x1;
pub const NLM_F_ACK: u16 = 0x4;
pub const NLM_F_DUMP_INTR: u16 = 0x10;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;
pub const NLM_F_ACK_TLVS: u16 = 0x200;
pub const NLMSGERR_ATTR_MSG: u16 = 1;
pub const NLMSGERR_ATTR_OFFS: u16 = 2;

// nfnetlink.h
pub const BATCH_BEGIN: u16 = 0x10;
pub const BATCH_END: u16 = 0x11;
pub const BATCH_GENID: u16 = 1;
pub const SUBSYS_NFTABLES: u16 = 10;

// linux/netfilter.h
pub const NFPROTO_UNSPEC: u8 = 0;
pub const NFPROTO_INET: u8 = 1;
pub const NFPROTO_IPV4: u32 = 2;
pub const NFPROTO_IPV6: u32 = 10;
pub const NF_DROP: u32 = 0;
pub const NF_ACCEPT: u32 = 1;

// enum nf_tables_msg_types
attributes! {
    NEWTABLE = 0, GETTABLE = 1, DELTABLE = 2,
    NEWCHAIN = 3, GETCHAIN = 4,
    NEWRULE = 6, GETRULE = 7,
    NEWSET = 9, GETSET = 10,
    NEWSETELEM = 12, GETSETELEM = 13, DELSETELEM = 14,
    GETGEN = 16,
}

// enum nft_verdicts
pub const VERDICT_CONTINUE: i32 = -1;
pub const VERDICT_JUMP: i32 = -3;
pub const VERDICT_GOTO: i32 = -4;
pub const VERDICT_RETURN: i32 = -5;

// enum nft_registers
pub const REG_VERDICT: u32 = 0;
pub const REG32_00: u32 = 8;

// enum nft_table_flags, nft_set_flags, nft_set_elem_flags, nft_data_types, nft_chain_flags
pub const TABLE_F_DORMANT: u32 = 0x1;
pub const SET_ANONYMOUS: u32 = 0x1;
pub const SET_CONSTANT: u32 = 0x2;
pub const SET_INTERVAL: u32 = 0x4;
pub const SET_MAP: u32 = 0x8;
pub const SET_EVAL: u32 = 0x20;
pub const SET_CONCAT: u32 = 0x80;
pub const SET_ELEM_INTERVAL_END: u32 = 0x1;
pub const SET_ELEM_CATCHALL: u32 = 0x2;
pub const DATA_VERDICT: u32 = 0xffff_ff00;

attributes! {
    LIST_ELEM = 1,
    TABLE_NAME = 1, TABLE_FLAGS = 2,
    HOOK_HOOKNUM = 1, HOOK_PRIORITY = 2,
    CHAIN_TABLE = 1, CHAIN_NAME = 3, CHAIN_HOOK = 4, CHAIN_POLICY = 5, CHAIN_TYPE = 7,
    RULE_TABLE = 1, RULE_CHAIN = 2, RULE_HANDLE = 3, RULE_EXPRESSIONS = 4, RULE_USERDATA = 7,
    SET_TABLE = 1, SET_NAME = 2, SET_FLAGS = 3, SET_KEY_TYPE = 4, SET_KEY_LEN = 5,
    SET_DATA_TYPE = 6, SET_DATA_LEN = 7, SET_DESC = 9, SET_ID = 10, SET_USERDATA = 13,
    SET_DESC_CONCAT = 2, SET_FIELD_LEN = 1,
    SET_ELEM_LIST_TABLE = 1, SET_ELEM_LIST_SET = 2, SET_ELEM_LIST_ELEMENTS = 3,
    SET_ELEM_KEY = 1, SET_ELEM_DATA = 2, SET_ELEM_FLAGS = 3, SET_ELEM_KEY_END = 10,
    DATA_VALUE = 1, DATA_VERDICT_ATTR = 2,
    VERDICT_CODE = 1, VERDICT_CHAIN = 2,
    EXPR_NAME = 1, EXPR_DATA = 2,
    GEN_ID = 1,
}

// One enum per expression
attributes! {
    IMMEDIATE_DREG = 1, IMMEDIATE_DATA = 2,
    BITWISE_SREG = 1, BITWISE_DREG = 2, BITWISE_LEN = 3, BITWISE_MASK = 4, BITWISE_XOR = 5,
    BITWISE_OP = 6,
    CMP_SREG = 1, CMP_OP = 2, CMP_DATA = 3,
    RANGE_SREG = 1, RANGE_OP = 2, RANGE_FROM_DATA = 3, RANGE_TO_DATA = 4,
    LOOKUP_SET = 1, LOOKUP_SREG = 2, LOOKUP_DREG = 3, LOOKUP_FLAGS = 5,
    PAYLOAD_DREG = 1, PAYLOAD_BASE = 2, PAYLOAD_OFFSET = 3, PAYLOAD_LEN = 4, PAYLOAD_SREG = 5,
    PAYLOAD_CSUM_TYPE = 6, PAYLOAD_CSUM_OFFSET = 7, PAYLOAD_CSUM_FLAGS = 8,
    META_DREG = 1, META_KEY = 2, META_SREG = 3,
    CT_DREG = 1, CT_KEY = 2, CT_DIRECTION = 3, CT_SREG = 4,
    COUNTER_BYTES = 1, COUNTER_PACKETS = 2,
    REJECT_TYPE = 1, REJECT_ICMP_CODE = 2,
    NAT_TYPE = 1, NAT_FAMILY = 2, NAT_REG_ADDR_MIN = 3, NAT_REG_ADDR_MAX = 4,
    NAT_REG_PROTO_MIN = 5, NAT_REG_PROTO_MAX = 6, NAT_FLAGS = 7,
    MASQ_FLAGS = 1, MASQ_REG_PROTO_MIN = 2,
    FIB_DREG = 1, FIB_RESULT = 2, FIB_FLAGS = 3,
}
pub const RANGE_EQ: u32 = 0;
pub const RANGE_NEQ: u32 = 1;
pub const LOOKUP_F_INV: u32 = 1;
pub const PAYLOAD_CSUM_NONE: u32 = 0;
pub const PAYLOAD_CSUM_INET: u32 = 1;
pub const PAYLOAD_L4CSUM_PSEUDOHDR: u32 = 1;
pub const NAT_DNAT: u32 = 1;
pub const FIB_RESULT_OIF: u32 = 1;
pub const FIB_RESULT_ADDRTYPE: u32 = 3;
pub const FIB_F_SADDR: u32 = 1 << 0;
pub const FIB_F_DADDR: u32 = 1 << 1;
pub const FIB_F_IIF: u32 = 1 << 3;
pub const FIB_F_PRESENT: u32 = 1 << 5;

// libnftnl/udata.h: what nft keeps beside a rule or a set
pub const UDATA_RULE_COMMENT: u8 = 0;
pub const UDATA_SET_KEYBYTEORDER: u8 = 0;
pub const UDATA_SET_DATABYTEORDER: u8 = 1;
/// `enum byteorder`, nftables include/datatype.h.
pub const BYTEORDER_INVALID: u32 = 0;
pub const BYTEORDER_HOST: u32 = 1;
pub const BYTEORDER_BIG: u32 = 2;
